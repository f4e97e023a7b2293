{{/* The port of an address of the form HOST, HOST:PORT, [V6] or [V6]:PORT; `port` where it names none. */}}
{{- define "tentacle.portOf" -}}
{{- $bare := regexReplaceAll "^\\[.*\\]" .address "host" }}
{{- if eq (len (splitList ":" $bare)) 2 }}
{{- splitList ":" $bare | last }}
{{- else }}
{{- int64 .port }}
{{- end }}
{{- end }}

{{/* The ports that a component connects to, as JSON, each once. */}}
{{- define "tentacle.ports" -}}
{{- $v := .values }}
{{- $ports := list }}
{{- if eq .name "proxy" }}
{{- range $v.upstreams }}
{{- $ports = append $ports (include "tentacle.portOf" (dict "address" . "port" $v.proxyPort)) }}
{{- end }}
{{- else if eq .name "sync-puller" }}
{{- range $v.sync_address }}
{{- $ports = append $ports (include "tentacle.portOf" (dict "address" . "port" $v.sync_port)) }}
{{- end }}
{{- range $v.sources }}
{{- $ports = append $ports (include "tentacle.portOf" (dict "address" .address "port" (.port | default $v.sync_port))) }}
{{- end }}
{{- /* Those that the custom resources name are not known here. */}}
{{- if $v.customResources.enabled }}{{ $ports = append $ports (toString (int64 $v.sync_port)) }}{{ end }}
{{- $forwards := list $v.forward }}
{{- range $v.sources }}{{ if .forward }}{{ $forwards = append $forwards .forward }}{{ end }}{{ end }}
{{- range $forwards }}
{{- range include "tentacle.servers" .to | fromJsonArray }}
{{- $ports = append $ports (include "tentacle.portOf" (dict "address" . "port" 41121)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}

{{/* What a `forward.to` names, as JSON: one address is a list of one. */}}
{{- define "tentacle.servers" -}}
{{- ternary . (list . | compact) (kindIs "slice" .) | toJson }}
{{- end }}
