{{/* The Service that clients of a component use. */}}
{{- define "tentacle.service" -}}
{{- $service := .values.service }}
apiVersion: v1
kind: Service
metadata:
  {{- include "tentacle.metadata" (merge (dict "labels" $service.labels "annotations" $service.annotations) .) | nindent 2 }}
spec:
  type: {{ $service.type }}
  {{- range list "clusterIP" "externalIPs" "externalTrafficPolicy" "internalTrafficPolicy" "loadBalancerClass" "loadBalancerIP" "loadBalancerSourceRanges" "sessionAffinity" "ipFamilyPolicy" "ipFamilies" }}
  {{- if index $service . }}
  {{- dict . (index $service .) | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  ports:
    - name: tentacle
      port: {{ int64 $service.port }}
      targetPort: tentacle
      protocol: TCP
      {{- with $service.nodePort }}
      nodePort: {{ int64 . }}
      {{- end }}
  selector:
    {{- include "tentacle.selector" . | nindent 4 }}
{{- end }}

{{/* hosts.allow and hosts.deny, which running pods read again when they change. */}}
{{- define "tentacle.hosts" -}}
{{- $hosts := .values.hosts }}
{{- if or $hosts.allow $hosts.deny }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "tentacle.metadata" (merge (dict "called" (printf "%s-hosts" (include "tentacle.name" .))) .) | nindent 2 }}
data:
  hosts.allow: {{ $hosts.allow | quote }}
  hosts.deny: {{ $hosts.deny | quote }}
{{- end }}
{{- end }}

{{- define "tentacle.hosts.volume" -}}
{{- if or .values.hosts.allow .values.hosts.deny }}
- name: hosts
  configMap:
    name: {{ include "tentacle.name" . }}-hosts
{{- end }}
{{- end }}

{{- define "tentacle.hosts.mount" -}}
{{- if or .values.hosts.allow .values.hosts.deny }}
- name: hosts
  mountPath: /etc/tentacle/hosts
  readOnly: true
{{- end }}
{{- end }}
