{{/*
A component's pods. What differs comes from helpers that are named after it:
tentacle.NAME.environment, .secrets (of the volume of secrets), .volumes and
.mounts. `checksum` is of what a running pod does not notice.
*/}}
{{- define "tentacle.podTemplate" -}}
{{- $v := .values }}
{{- $secrets := include (printf "tentacle.%s.secrets" .name) . }}
{{- $secrets = print $secrets (include "tentacle.secrets.tls" (include "tentacle.otel.tls" . | fromJson)) | trim -}}
metadata:
  labels:
    {{- /* Without the versions, so that a new chart alone replaces no pod. */}}
    {{- mergeOverwrite (dict) .root.Values.commonLabels $v.podLabels (include "tentacle.selector" . | fromYaml) | toYaml | nindent 4 }}
  {{- $annotations := mergeOverwrite (dict) .root.Values.commonAnnotations $v.podAnnotations }}
  {{- with .checksum }}{{ $_ := set $annotations "checksum/config" . }}{{ end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "tentacle.serviceAccount" . }}
  {{- $asks := and (eq .name "sync-puller") (include "tentacle.sync-puller.asksKubernetes" .) }}
  automountServiceAccountToken: {{ or $v.serviceAccount.automount (not (empty $asks)) }}
  {{- /* Variables of services have names that options may have: TENTACLE_…. */}}
  enableServiceLinks: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- mergeOverwrite (deepCopy .root.Values.podSecurityContext) $v.podSecurityContext | toYaml | nindent 4 }}
  terminationGracePeriodSeconds: {{ int64 $v.terminationGracePeriodSeconds }}
  {{- with $v.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "tentacle.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        {{- mergeOverwrite (deepCopy .root.Values.securityContext) $v.securityContext | toYaml | nindent 8 }}
      env:
        {{- include (printf "tentacle.%s.environment" .name) . | trim | nindent 8 }}
        {{- include "tentacle.variables.service" . | trim | nindent 8 }}
        {{- with include "tentacle.otel.environment" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if ne .name "sync-puller" }}
        - name: tentacle
          containerPort: 41121
          protocol: TCP
        {{- end }}
        - name: http
          containerPort: {{ int64 .root.Values.http.port }}
          protocol: TCP
      {{- with include "tentacle.probes" .root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- $mounts := include (printf "tentacle.%s.mounts" .name) . | trim }}
      {{- if or $mounts $secrets $v.extraVolumeMounts }}
      volumeMounts:
        {{- with $mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if $secrets }}
        - name: secrets
          mountPath: {{ include "tentacle.secretsPath" . }}
          readOnly: true
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    {{- with $v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $volumes := include (printf "tentacle.%s.volumes" .name) . | trim }}
  {{- if or $volumes $secrets $v.extraVolumes }}
  volumes:
    {{- with $volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $secrets }}
    {{- include "tentacle.secretsVolume" . | nindent 4 }}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with include "tentacle.scheduling" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "tentacle.secretsVolume" -}}
- name: secrets
  projected:
    {{- /* For the group of fsGroup too. */}}
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}

{{- define "tentacle.probes" -}}
{{- with .Values.livenessProbe }}
livenessProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.readinessProbe }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.startupProbe }}
startupProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods run, and how they look up names. */}}
{{- define "tentacle.scheduling" -}}
{{- $v := .values }}
{{- range list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "hostAliases" "dnsPolicy" "dnsConfig" }}
{{- if index $v . }}
{{- dict . (index $v .) | toYaml | nindent 0 }}
{{- end }}
{{- end }}
{{- with $v.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "tentacle.selector" $ | fromYaml)) }}
  - {{ mergeOverwrite $own (deepCopy .) | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end }}
