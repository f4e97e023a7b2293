{{/*
What OpenTelemetry is told, by its standard variables. Those of the pod stand
first: Kubernetes fills in what stands before.
*/}}
{{- define "tentacle.otel.environment" -}}
{{- $otel := .root.Values.otel }}
{{- if $otel.endpoint }}
{{- range list (list "K8S_POD_NAME" "metadata.name") (list "K8S_POD_UID" "metadata.uid") (list "K8S_NODE_NAME" "spec.nodeName") }}
- name: {{ first . }}
  valueFrom:
    fieldRef:
      fieldPath: {{ last . }}
{{- end }}
{{- $kind := ternary "statefulset" "deployment" (and (eq .name "receiver") (dig "persistence" "enabled" false .values)) }}
{{- $attributes := list
  (printf "k8s.namespace.name=%s" .root.Release.Namespace)
  (printf "k8s.%s.name=%s" $kind (include "tentacle.name" .))
  (printf "k8s.container.name=%s" .name)
  "k8s.pod.name=$(K8S_POD_NAME)" "k8s.pod.uid=$(K8S_POD_UID)" "k8s.node.name=$(K8S_NODE_NAME)" }}
{{- range $name, $value := $otel.resourceAttributes }}
{{- $attributes = append $attributes (printf "%s=%s" $name ($value | replace "$" "$$")) }}
{{- end }}
{{- $files := include "tentacle.tlsFiles" (include "tentacle.otel.tls" . | fromJson) | fromJson }}
{{- $sampled := hasSuffix "traceidratio" $otel.sampler }}
{{- range list
  (list "OTEL_RESOURCE_ATTRIBUTES" (join "," $attributes))
  (list "OTEL_EXPORTER_OTLP_ENDPOINT" ($otel.endpoint | replace "$" "$$"))
  (list "OTEL_EXPORTER_OTLP_PROTOCOL" $otel.protocol)
  (list "OTEL_TRACES_EXPORTER" (ternary "otlp" "none" $otel.traces))
  (list "OTEL_METRICS_EXPORTER" (ternary "otlp" "none" $otel.metrics))
  (list "OTEL_LOGS_EXPORTER" (ternary "otlp" "none" $otel.logs))
  (list "OTEL_TRACES_SAMPLER" $otel.sampler)
  (list "OTEL_TRACES_SAMPLER_ARG" (ternary $otel.samplerArg "" $sampled))
  (list "OTEL_EXPORTER_OTLP_CERTIFICATE" $files.ca)
  (list "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" $files.cert)
  (list "OTEL_EXPORTER_OTLP_CLIENT_KEY" $files.key) }}
{{- if last . }}
- name: {{ first . }}
  value: {{ last . | quote }}
{{- end }}
{{- end }}
{{- with $otel.headers.existingSecret }}
{{- /* The specification has no file for them. */}}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $otel.headers.key }}
{{- end }}
{{- end }}
{{- end }}

{{/* The `tls` of the collector as the helpers of secrets want it, as JSON. */}}
{{- define "tentacle.otel.tls" -}}
{{- $otel := .root.Values.otel }}
{{- $tls := merge (dict "enabled" (and $otel.tls.enabled (not (empty $otel.endpoint)))) $otel.tls }}
{{- $_ := set $tls "keys" (merge (dict "keyPassword" "") $otel.tls.keys) }}
{{- dict "tls" $tls "whose" "" "path" "otel" | toJson }}
{{- end }}
