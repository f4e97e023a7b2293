{{/*
Whether `helm test` has something to test: a receiver whose files can be
removed again, and that lets the test in. The client says no PROXY header.
*/}}
{{- define "tentacle.isTested" -}}
{{- $r := .Values.receiver }}
{{- $tests := .Values.tests }}
{{- $certificate := or $tests.tls.existingSecret $tests.tls.certManager.enabled }}
{{- $asked := and $r.tls.enabled $r.tls.keys.ca }}
{{- if and $tests.enabled $r.enabled $r.insecure (not $r.acceptProxy) (or $certificate (not $asked)) }}true{{ end }}
{{- end }}
