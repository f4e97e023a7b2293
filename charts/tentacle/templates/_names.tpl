{{/* At most 40 characters, so that the longest suffix and the hash of a StatefulSet's pods fit into 63. */}}
{{- define "tentacle.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if not (contains $name .Release.Name) }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- else }}
{{- $name = .Release.Name }}
{{- end }}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* A component is a dict: root, name (as in names of objects), values. */}}
{{- define "tentacle.name" -}}
{{ include "tentacle.fullname" .root }}-{{ .name }}
{{- end }}

{{- define "tentacle.headless" -}}
{{ include "tentacle.name" . }}-headless
{{- end }}

{{- define "tentacle.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* Labels of an object: those of the selector, the chart's, commonLabels and `more`. */}}
{{- define "tentacle.labels" -}}
{{- $labels := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" "tentacle" }}
{{- $selector := include "tentacle.selector" . | fromYaml }}
{{- mergeOverwrite (dict) $labels .root.Values.commonLabels (.more | default dict) $selector | toYaml }}
{{- end }}

{{/* `metadata` of an object of a component. `called` is its name, `labels` and `annotations` its own. */}}
{{- define "tentacle.metadata" -}}
name: {{ .called | default (include "tentacle.name" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "tentacle.labels" (merge (dict "more" .labels) .) | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tentacle.serviceAccount" -}}
{{- $account := .values.serviceAccount }}
{{- if $account.create }}
{{- default (include "tentacle.name" .) $account.name }}
{{- else }}
{{- default "default" $account.name }}
{{- end }}
{{- end }}

{{- define "tentacle.image" -}}
{{- $all := .root.Values.image }}
{{- $image := .values.image }}
{{- with $image.registry | default $all.registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $all.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Every component that is switched on, as a list of dicts without root. */}}
{{- define "tentacle.components" -}}
{{- $all := list (dict "name" "receiver" "key" "receiver") (dict "name" "proxy" "key" "proxy") (dict "name" "sync-puller" "key" "syncPuller") }}
{{- $on := list }}
{{- range $all }}
{{- if (index $.Values .key).enabled }}{{ $on = append $on . }}{{ end }}
{{- end }}
{{- toJson $on }}
{{- end }}
