{{/*
All secrets of a pod are in one volume, so that they change in a running pod
when they change in the cluster; the programs read them again by themselves.
*/}}
{{- define "tentacle.secretsPath" -}}/etc/tentacle/secrets{{- end }}

{{/* Items of the volume for a password, at `path`. */}}
{{- define "tentacle.secrets.password" -}}
{{- with .password.existingSecret }}
- secret:
    name: {{ . }}
    items:
      - key: {{ $.password.key }}
        path: {{ $.path }}
{{- end }}
{{- end }}

{{/* Items of the volume for a `tls`, in the folder `path`. */}}
{{- define "tentacle.secrets.tls" -}}
{{- $files := list }}
{{- $keys := .tls.keys }}
{{- range list (list $keys.cert "tls.crt") (list $keys.key "tls.key") (list $keys.ca "ca.crt") (list $keys.keyPassword "key-password") }}
{{- if first . }}{{ $files = append $files (dict "key" (first .) "path" (printf "%s/%s" $.path (last .))) }}{{ end }}
{{- end }}
{{- $secret := include "tentacle.tlsSecret" . }}
{{- if and .tls.enabled $secret $files }}
- secret:
    name: {{ $secret }}
    items:
      {{- toYaml $files | nindent 6 }}
{{- end }}
{{- end }}

{{/* The Secret of a `tls`: the one that is named, or cert-manager's; `whose` tells the latter from others. */}}
{{- define "tentacle.tlsSecret" -}}
{{- if .tls.existingSecret }}
{{- .tls.existingSecret }}
{{- else if (.tls.certManager | default dict).enabled }}
{{- printf "%s-%s" (include "tentacle.fullname" .root) .whose }}
{{- end }}
{{- end }}

{{/* The paths of a `tls` as JSON: cert, key, ca, keyPassword; none where they are not mounted. */}}
{{- define "tentacle.tlsFiles" -}}
{{- $files := dict }}
{{- if and .tls.enabled (include "tentacle.tlsSecret" .) }}
{{- $folder := printf "%s/%s" (include "tentacle.secretsPath" .) .path }}
{{- $keys := .tls.keys }}
{{- with $keys.cert }}{{ $_ := set $files "cert" (printf "%s/tls.crt" $folder) }}{{ end }}
{{- with $keys.key }}{{ $_ := set $files "key" (printf "%s/tls.key" $folder) }}{{ end }}
{{- with $keys.ca }}{{ $_ := set $files "ca" (printf "%s/ca.crt" $folder) }}{{ end }}
{{- with $keys.keyPassword }}{{ $_ := set $files "keyPassword" (printf "%s/key-password" $folder) }}{{ end }}
{{- end }}
{{- toJson $files }}
{{- end }}
