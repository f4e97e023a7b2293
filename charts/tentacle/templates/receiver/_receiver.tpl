{{- define "tentacle.receiver.environment" -}}
{{- $v := .values }}
{{- include "tentacle.variables" (dict "options" (list
  (list "directory" "/var/spool/tentacle")
  (list "insecure" $v.insecure)
  (list "overwrite" $v.overwrite)
  (list "filters" (join ";" $v.filters))
  (list "max-size" $v.maxSize)
  (list "spool-max-bytes" (default "" $v.spoolMaxBytes))
  (list "spool-max-files" (default "" $v.spoolMaxFiles))
  (list "expire" $v.expire)
  (list "invalid-chars" $v.invalidChars)
  (list "block-size" $v.blockSize))) }}
{{- include "tentacle.variables.listening" . }}
{{- end }}

{{- define "tentacle.receiver.secrets" -}}
{{- include "tentacle.secrets.password" (dict "password" .values.password "path" "password") }}
{{- include "tentacle.secrets.tls" (dict "root" .root "tls" .values.tls "whose" "receiver-tls" "path" "tls") }}
{{- end }}

{{- define "tentacle.receiver.mounts" -}}
{{- include "tentacle.filesMount" .values.persistence }}
{{- include "tentacle.hosts.mount" . }}
{{- end }}

{{/* Without the claims of a StatefulSet, which has them as templates. */}}
{{- define "tentacle.receiver.volumes" -}}
{{- $persistence := .values.persistence }}
{{- if not $persistence.enabled }}
- name: files
  emptyDir:
    {{- toYaml $persistence.emptyDir | nindent 4 }}
{{- else if $persistence.existingClaim }}
- name: files
  persistentVolumeClaim:
    claimName: {{ $persistence.existingClaim }}
{{- end }}
{{- include "tentacle.hosts.volume" . }}
{{- end }}
