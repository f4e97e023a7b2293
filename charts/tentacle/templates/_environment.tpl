{{/*
Variables of the programs' options: `options` is a list of pairs of a long
option and a value. What is false or empty is left to the program, 0 is not.
*/}}
{{- define "tentacle.variables" -}}
{{- range .options }}
{{- $value := last . }}
{{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end }}
{{- if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- if kindIs "bool" $value }}{{ $value = ternary "1" "" $value }}{{ end }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: TENTACLE_{{ first . | upper | replace "-" "_" }}
  {{- /* Kubernetes makes one `$` of two, and reads `$(NAME)` as a variable. */}}
  value: {{ toString $value | replace "$" "$$" | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What every service is told: how to log, how long to drain, where to answer probes. */}}
{{- define "tentacle.variables.service" -}}
{{- $verbosity := .values.log.verbosity }}
{{- $drain := max 1 (sub (int64 .values.terminationGracePeriodSeconds) 5) }}
{{- $address := .root.Values.http.address }}
{{- $http := printf "%s:%d" (ternary (printf "[%s]" $address) $address (contains ":" $address)) (int64 .root.Values.http.port) }}
{{- include "tentacle.variables" (dict "options" (list
  (list "http-addr" $http)
  (list "drain-timeout" $drain)
  (list "log-format" .values.log.format)
  (list "quiet" (eq $verbosity "quiet"))
  (list "verbose" (eq $verbosity "verbose"))
  (list "very-verbose" (eq $verbosity "very-verbose")))) }}
{{- end }}

{{/* What the receiver and the proxy are told alike. */}}
{{- define "tentacle.variables.listening" -}}
{{- $v := .values }}
{{- $secrets := include "tentacle.secretsPath" . }}
{{- $tls := include "tentacle.tlsFiles" (dict "root" .root "tls" $v.tls "whose" (printf "%s-tls" .name) "path" "tls") | fromJson }}
{{- $hosts := or $v.hosts.allow $v.hosts.deny }}
{{- include "tentacle.variables" (dict "options" (list
  (list "addresses" $v.addresses)
  (list "max-connections" $v.maxConnections)
  (list "max-connections-per-address" (default "" $v.maxConnectionsPerAddress))
  (list "timeout" $v.timeout)
  (list "retries" $v.retries)
  (list "allow" $v.allow)
  (list "allow-name" $v.allowName)
  (list "accept-proxy" $v.acceptProxy)
  (list "use-libwrap" (not (empty $hosts)))
  (list "hosts-allow" (ternary "/etc/tentacle/hosts/hosts.allow" "" (not (empty $hosts))))
  (list "hosts-deny" (ternary "/etc/tentacle/hosts/hosts.deny" "" (not (empty $hosts))))
  (list "password-file" (ternary (printf "%s/password" $secrets) "" (not (empty $v.password.existingSecret))))
  (list "ssl-cert" $tls.cert)
  (list "ssl-key" $tls.key)
  (list "ssl-ca" $tls.ca)
  (list "key-password-file" $tls.keyPassword))) }}
{{- end }}
