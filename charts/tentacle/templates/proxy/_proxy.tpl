{{- define "tentacle.proxy.environment" -}}
{{- $v := .values }}
{{- $tls := include "tentacle.tlsFiles" (dict "root" .root "tls" $v.upstreamTls "whose" "proxy-upstream-tls" "path" "upstream-tls") | fromJson }}
{{- $password := ternary (printf "%s/upstream-password" (include "tentacle.secretsPath" .)) "" (not (empty $v.upstreamPassword.existingSecret)) }}
{{- include "tentacle.variables" (dict "options" (list
  (list "proxy-ip" $v.upstreams)
  (list "proxy-port" $v.proxyPort)
  (list "upstream-tls" $v.upstreamTls.enabled)
  (list "upstream-ca" $tls.ca)
  (list "upstream-name" (ternary $v.upstreamTls.serverName "" $v.upstreamTls.enabled))
  (list "upstream-cert" $tls.cert)
  (list "upstream-key" (ternary $tls.key "" (hasKey $tls "cert")))
  (list "upstream-key-password-file" (ternary $tls.keyPassword "" (hasKey $tls "cert")))
  (list "upstream-password-file" $password)
  (list "send-proxy" $v.sendProxy)
  (list "inspect" $v.inspect)
  (list "strict" $v.strict))) }}
{{- include "tentacle.variables.listening" . }}
{{- end }}

{{- define "tentacle.proxy.secrets" -}}
{{- include "tentacle.secrets.password" (dict "password" .values.password "path" "password") }}
{{- include "tentacle.secrets.tls" (dict "root" .root "tls" .values.tls "whose" "proxy-tls" "path" "tls") }}
{{- include "tentacle.secrets.password" (dict "password" .values.upstreamPassword "path" "upstream-password") }}
{{- include "tentacle.secrets.tls" (dict "root" .root "tls" .values.upstreamTls "whose" "proxy-upstream-tls" "path" "upstream-tls") }}
{{- end }}

{{- define "tentacle.proxy.mounts" -}}
{{- include "tentacle.hosts.mount" . }}
{{- end }}

{{- define "tentacle.proxy.volumes" -}}
{{- include "tentacle.hosts.volume" . }}
{{- end }}
