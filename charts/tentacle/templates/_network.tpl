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
{{- with $v.forward.to }}
{{- $ports = append $ports (include "tentacle.portOf" (dict "address" . "port" 41121)) }}
{{- end }}
{{- end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}
