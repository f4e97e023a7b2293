{{/* Whether an object of a kind of the Prometheus operator is made: `enabled` is false, true or auto. */}}
{{- define "tentacle.installed" -}}
{{- if or (eq (toString .enabled) "true") (and (eq (toString .enabled) "auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind))) }}yes{{ end }}
{{- end }}

{{/* `metadata` of an object of no component. `suffix` tells it from others, `labels` and `annotations` are its own. */}}
{{- define "tentacle.metadata.all" -}}
name: {{ include "tentacle.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- omit (include "tentacle.labels" (dict "root" .root "name" "metrics" "more" .labels) | fromYaml) "app.kubernetes.io/component" | toYaml | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a PodMonitor and a ServiceMonitor have alike: what they select, and how it is scraped. */}}
{{- define "tentacle.monitor.selector" -}}
selector:
  matchLabels:
    {{- omit (include "tentacle.selector" (dict "root" .root "name" "") | fromYaml) "app.kubernetes.io/component" | toYaml | nindent 4 }}
  matchExpressions:
    - key: app.kubernetes.io/component
      operator: In
      values: [receiver, proxy, sync-puller]
{{- end }}

{{- define "tentacle.monitor.endpoint" -}}
- port: http
  path: /metrics
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
