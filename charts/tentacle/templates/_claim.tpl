{{/* The specification of a claim, from the values that describe it. */}}
{{- define "tentacle.claim" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClassName }}
storageClassName: {{ ternary "" . (eq . "-") | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* The mount of the files' volume. */}}
{{- define "tentacle.filesMount" -}}
- name: files
  mountPath: /var/spool/tentacle
  {{- with .subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
