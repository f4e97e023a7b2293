{{/* What the schema cannot say: keys that only make sense together. Each answer names the key and what to do. */}}
{{- define "tentacle.checks" -}}
{{- $r := .Values.receiver }}
{{- $p := .Values.proxy }}
{{- $s := .Values.syncPuller }}
{{- $tls := list }}
{{- if $r.enabled }}
{{- $tls = append $tls (list "receiver.tls" $r.tls) }}
{{- include "tentacle.checks.listening" (dict "path" "receiver" "values" $r) }}
{{- if and $r.persistence.enabled $r.persistence.existingClaim (gt (int64 $r.replicas) 1) }}
{{- fail (printf "receiver.replicas: %d pods cannot share the claim of receiver.persistence.existingClaim (a spool is one pod's: set 1, or leave the claim out)" (int64 $r.replicas)) }}
{{- end }}
{{- end }}
{{- if $p.enabled }}
{{- $tls = concat $tls (list (list "proxy.tls" $p.tls) (list "proxy.upstreamTls" $p.upstreamTls)) }}
{{- include "tentacle.checks.listening" (dict "path" "proxy" "values" $p) }}
{{- if not $p.upstreams }}
{{- fail "proxy.upstreams: is empty (name at least one server that sessions are passed on to: HOST or HOST:PORT)" }}
{{- end }}
{{- if and $p.strict (not $p.inspect) }}
{{- fail "proxy.strict: only goes with proxy.inspect" }}
{{- end }}
{{- end }}
{{- if $s.enabled }}
{{- $tls = concat $tls (list (list "syncPuller.tls" $s.tls) (list "syncPuller.forward.tls" $s.forward.tls)) }}
{{- if not (or $s.sync_address $s.sources $s.customResources.enabled) }}
{{- fail "syncPuller.sync_address: is empty, and so is syncPuller.sources (name at least one buffer: HOST or HOST:PORT; or set syncPuller.customResources.enabled)" }}
{{- end }}
{{- if and $s.forward.to $s.incoming.existingClaim }}
{{- fail "syncPuller.forward.to: files go there, or to the claim of syncPuller.incoming.existingClaim, not to both" }}
{{- end }}
{{- include "tentacle.checks.sharing" $s }}
{{- end }}
{{- include "tentacle.checks.telemetry" . }}
{{- range $tls }}
{{- include "tentacle.checks.tls" (dict "path" (first .) "tls" (last .)) }}
{{- end }}
{{- end }}

{{/* Of more than one puller, and of what is asked of Kubernetes. */}}
{{- define "tentacle.checks.sharing" -}}
{{- $pods := int64 .replicaCount }}
{{- if and (gt $pods 1) (not .leases.enabled) }}
{{- fail (printf "syncPuller.replicaCount: %d pods would all fetch from the same buffers (set syncPuller.leases.enabled, by which they share them, or 1)" $pods) }}
{{- end }}
{{- if and (gt $pods 1) (not .forward.to) (not .incoming.existingClaim) (not (has "ReadWriteMany" .incoming.accessModes)) }}
{{- fail (printf "syncPuller.incoming.accessModes: %d pods write to the claim, perhaps on several nodes (set [ReadWriteMany], with a syncPuller.incoming.storageClassName that has it; or name a claim that has it in syncPuller.incoming.existingClaim; or send on with syncPuller.forward.to)" $pods) }}
{{- end }}
{{- if and .customResources.secretNames (not .customResources.enabled) }}
{{- fail "syncPuller.customResources.secretNames: only goes with syncPuller.customResources.enabled" }}
{{- end }}
{{- $asks := include "tentacle.sync-puller.asksKubernetes" (dict "values" .) }}
{{- if and $asks .rbac.create (not .serviceAccount.create) (not .serviceAccount.name) }}
{{- fail "syncPuller.serviceAccount.name: is empty, and serviceAccount.create is off: every pod of the namespace would get the puller's rights (name an account of its own, or let one be made)" }}
{{- end }}
{{- end }}

{{- define "tentacle.checks.tls" -}}
{{- $tls := .tls }}
{{- if and (not $tls.enabled) (or $tls.existingSecret $tls.certManager.enabled) }}
{{- fail (printf "%s.enabled: is off, and certificates are given (switch it on, or leave them out: connections would be plain)" .path) }}
{{- end }}
{{- if and $tls.certManager.enabled (not $tls.existingSecret) (not $tls.certManager.issuerRef.name) }}
{{- fail (printf "%s.certManager.issuerRef: is empty (name who signs: {name: …, kind: Issuer or ClusterIssuer})" .path) }}
{{- end }}
{{- end }}

{{- define "tentacle.checks.listening" -}}
{{- $v := .values }}
{{- if $v.tls.enabled }}
{{- if not (or $v.tls.existingSecret $v.tls.certManager.enabled) }}
{{- fail (printf "%s.tls.existingSecret: is needed, as a server has a certificate (name a Secret, or set %s.tls.certManager.enabled)" .path .path) }}
{{- end }}
{{- if not $v.tls.keys.cert }}
{{- fail (printf "%s.tls.keys.cert: must not be empty, as a server has a certificate" .path) }}
{{- end }}
{{- end }}
{{- if and $v.allowName (not (and $v.tls.enabled $v.tls.keys.ca)) }}
{{- fail (printf "%s.allowName: only goes with %s.tls.enabled and %s.tls.keys.ca, by which clients show certificates" .path .path .path) }}
{{- end }}
{{- if and $v.acceptProxy (not $v.allow) }}
{{- fail (printf "%s.acceptProxy: only goes with %s.allow, which names the proxies" .path .path) }}
{{- end }}
{{- end }}

{{- define "tentacle.checks.telemetry" -}}
{{- $otel := .Values.otel }}
{{- if not $otel.endpoint }}
{{- range list (list "headers.existingSecret" $otel.headers.existingSecret) (list "tls.enabled" $otel.tls.enabled) (list "metrics" $otel.metrics) (list "logs" $otel.logs) }}
{{- if last . }}
{{- fail (printf "otel.%s: only goes with otel.endpoint, the collector" (first .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $otel.tls.enabled (not $otel.tls.existingSecret) }}
{{- fail "otel.tls.existingSecret: is needed with otel.tls.enabled (name a Secret)" }}
{{- end }}
{{- if and $otel.tls.enabled (not (hasPrefix "https:" $otel.endpoint)) }}
{{- fail "otel.tls.enabled: only goes with an otel.endpoint of https://" }}
{{- end }}
{{- if and $otel.samplerArg (not (hasSuffix "traceidratio" $otel.sampler)) }}
{{- fail (printf "otel.samplerArg: only goes with otel.sampler traceidratio, and not with %s" $otel.sampler) }}
{{- end }}
{{- $metrics := .Values.metrics }}
{{- if and $metrics.podMonitor.enabled $metrics.serviceMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled: only goes without metrics.podMonitor, as each pod would be scraped twice" }}
{{- end }}
{{- $known := list }}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups }}{{ range .rules }}{{ $known = append $known .alert }}{{ end }}{{ end }}
{{- range $metrics.prometheusRule.disabled }}
{{- if not (has . $known) }}
{{- fail (printf "metrics.prometheusRule.disabled: there is no alert %s (there are %s)" . (join ", " $known)) }}
{{- end }}
{{- end }}
{{- end }}
