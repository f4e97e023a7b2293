{{- define "tentacle.sync-puller.environment" -}}
{{- $v := .values }}
{{- include "tentacle.variables" (dict "options" (list
  (list "config" "/etc/tentacle/config/sources.yaml")
  (list "sync-block-size" $v.sync_block_size)
  (list "max-connections" $v.maxConnections)
  (list "custom-resources" $v.customResources.enabled))) }}
{{- if $v.leases.enabled }}
{{- include "tentacle.variables" (dict "options" (list
  (list "coordination" "kubernetes")
  (list "lease-name" (include "tentacle.name" .))
  (list "shards" $v.leases.shards)
  (list "lease-duration" $v.leases.durationSeconds))) }}
{{- end }}
{{- if include "tentacle.sync-puller.asksKubernetes" . }}
- name: TENTACLE_IDENTITY
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- end }}

{{/* Whether the pods speak with the API server. */}}
{{- define "tentacle.sync-puller.asksKubernetes" -}}
{{- if or .values.leases.enabled .values.customResources.enabled }}true{{ end }}
{{- end }}

{{/* Whether files of any source are sent on: a large one is held in a volume until the server has it. */}}
{{- define "tentacle.sync-puller.sendsOn" -}}
{{- $sendsOn := .values.forward.to }}
{{- range .values.sources }}{{ $sendsOn = or $sendsOn .forward }}{{ end }}
{{- if $sendsOn }}true{{ end }}
{{- end }}

{{- define "tentacle.sync-puller.secrets" -}}
{{- $root := .root }}
{{- $v := .values }}
{{- include "tentacle.secrets.password" (dict "password" $v.password "path" "password") }}
{{- include "tentacle.secrets.tls" (dict "root" $root "tls" $v.tls "whose" "sync-puller-tls" "path" "tls") }}
{{- range $number, $source := $v.sources }}
{{- with $source.password }}
{{- include "tentacle.secrets.password" (dict "password" (merge (dict) . (dict "key" "password")) "path" (printf "sources/%d/password" $number)) }}
{{- end }}
{{- with $source.tls }}
{{- include "tentacle.secrets.tls" (include "tentacle.sync-puller.ownTls" (dict "tls" . "number" $number "folder" "tls") | fromJson) }}
{{- end }}
{{- with $source.forward }}
{{- with .password }}
{{- include "tentacle.secrets.password" (dict "password" (merge (dict) . (dict "key" "password")) "path" (printf "sources/%d/forward-password" $number)) }}
{{- end }}
{{- with .tls }}
{{- include "tentacle.secrets.tls" (include "tentacle.sync-puller.ownTls" (dict "tls" . "number" $number "folder" "forward-tls") | fromJson) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $v.forward.to }}
{{- include "tentacle.secrets.password" (dict "password" $v.forward.password "path" "forward-password") }}
{{- include "tentacle.secrets.tls" (dict "root" $root "tls" $v.forward.tls "whose" "sync-puller-forward-tls" "path" "forward-tls") }}
{{- end }}
{{- end }}

{{/* A `tls` of a source's own, with what it leaves out, as JSON. */}}
{{- define "tentacle.sync-puller.ownTls" -}}
{{- $default := dict "enabled" true "keys" (dict "cert" "tls.crt" "key" "tls.key" "ca" "ca.crt" "keyPassword" "") }}
{{- dict "tls" (mergeOverwrite $default (deepCopy .tls)) "whose" "" "path" (printf "sources/%d/%s" .number .folder) | toJson }}
{{- end }}

{{- define "tentacle.sync-puller.mounts" -}}
- name: config
  mountPath: /etc/tentacle/config
  readOnly: true
{{- if include "tentacle.sync-puller.sendsOn" . }}
- name: passing
  mountPath: /tmp
{{- end }}
{{- if not .values.forward.to }}
{{ include "tentacle.filesMount" .values.incoming }}
{{- end }}
{{- end }}

{{- define "tentacle.sync-puller.volumes" -}}
- name: config
  configMap:
    name: {{ include "tentacle.name" . }}
{{- if include "tentacle.sync-puller.sendsOn" . }}
- name: passing
  emptyDir: {}
{{- end }}
{{- if not .values.forward.to }}
- name: files
  persistentVolumeClaim:
    claimName: {{ .values.incoming.existingClaim | default (printf "%s-incoming" (include "tentacle.name" .)) }}
{{- end }}
{{- end }}

{{/* The file of --config. */}}
{{- define "tentacle.sync-puller.config" -}}
{{- $root := .root }}
{{- $v := .values }}
{{- $secrets := include "tentacle.secretsPath" . }}
{{- $general := dict
  "port" (int64 $v.sync_port) "timeout" (int64 $v.sync_timeout) "retries" (int64 $v.sync_retries)
  "interval" (int64 $v.interval) "connections" (int64 $v.connections) "mode" $v.sync_mode }}
{{- with $v.folders }}{{ $_ := set $general "folders" . }}{{ end }}
{{- if $v.password.existingSecret }}{{ $_ := set $general "password_file" (printf "%s/password" $secrets) }}{{ end }}
{{- if $v.tls.enabled }}
{{- $_ := set $general "tls" (include "tentacle.sync-puller.tls" (dict "root" $root "tls" $v.tls "whose" "sync-puller-tls" "path" "tls") | fromJson).tls }}
{{- end }}
{{- $sources := list }}
{{- range $v.sync_address }}
{{- $sources = append $sources (dict "address" .) }}
{{- end }}
{{- range $number, $given := $v.sources }}
{{- $source := omit $given "password" "tls" "forward" }}
{{- if ($given.password | default dict).existingSecret }}
{{- $_ := set $source "password_file" (printf "%s/sources/%d/password" $secrets $number) }}
{{- end }}
{{- with $given.tls }}
{{- $own := include "tentacle.sync-puller.ownTls" (dict "tls" . "number" $number "folder" "tls") | fromJson }}
{{- $_ := set $source "tls" (include "tentacle.sync-puller.tls" $own | fromJson).tls }}
{{- end }}
{{- with $given.forward }}
{{- $_ := set $source "forward_to" .to }}
{{- if (.password | default dict).existingSecret }}
{{- $_ := set $source "forward_password_file" (printf "%s/sources/%d/forward-password" $secrets $number) }}
{{- end }}
{{- with .tls }}
{{- $own := include "tentacle.sync-puller.ownTls" (dict "tls" . "number" $number "folder" "forward-tls") | fromJson }}
{{- $_ := set $source "forward_tls" (include "tentacle.sync-puller.tls" $own | fromJson).tls }}
{{- end }}
{{- end }}
{{- $sources = append $sources $source }}
{{- end }}
{{- $file := dict "defaults" $general "sources" $sources }}
{{- if $v.forward.to }}
{{- $_ := set $file "forward_to" $v.forward.to }}
{{- if $v.forward.password.existingSecret }}{{ $_ := set $file "forward_password_file" (printf "%s/forward-password" $secrets) }}{{ end }}
{{- if $v.forward.tls.enabled }}
{{- $_ := set $file "forward_tls" (include "tentacle.sync-puller.tls" (dict "root" $root "tls" $v.forward.tls "whose" "sync-puller-forward-tls" "path" "forward-tls") | fromJson).tls }}
{{- end }}
{{- else }}
{{- $_ := set $file "incoming_dir" "/var/spool/tentacle" }}
{{- $_ := set $file "overwrite" $v.overwrite }}
{{- end }}
{{- toYaml $file }}
{{- end }}

{{/* What the file says of a `tls`, as JSON under the key `tls`: true, false or a map. */}}
{{- define "tentacle.sync-puller.tls" -}}
{{- $files := include "tentacle.tlsFiles" . | fromJson }}
{{- $said := dict }}
{{- with $files.ca }}{{ $_ := set $said "ca" . }}{{ end }}
{{- with $files.cert }}
{{- $_ := set $said "cert" . }}
{{- with $files.key }}{{ $_ := set $said "key" . }}{{ end }}
{{- with $files.keyPassword }}{{ $_ := set $said "key_password_file" . }}{{ end }}
{{- end }}
{{- with .tls.serverName }}{{ $_ := set $said "server_name" . }}{{ end }}
{{- with .tls.verifyName }}{{ $_ := set $said "verify_name" . }}{{ end }}
{{- with .tls.pinSha256 }}{{ $_ := set $said "pin_sha256" . }}{{ end }}
{{- dict "tls" (ternary (ternary $said true (not (empty $said))) false .tls.enabled) | toJson }}
{{- end }}
