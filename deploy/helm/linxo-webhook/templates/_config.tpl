{{/* The configuration file. What the chart sets itself comes from its values; `config` has the rest, and may not contradict. */}}
{{- define "linxo-webhook.config" -}}
{{- $own := include "linxo-webhook.own" . | fromYaml -}}
{{- range $section, $keys := $own -}}
  {{- range $key, $_ := $keys -}}
    {{- if hasKey (get $.Values.config $section | default dict) $key -}}
      {{- fail (printf "config.%s.%s is set by the chart: remove it from `config`, and see values.yaml for what decides on it" $section $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $section, $value := mergeOverwrite $own (deepCopy .Values.config) -}}
{{- if kindIs "slice" $value -}}
{{- range $element := $value }}
[[{{ $section }}]]
{{- include "linxo-webhook.toml.keys" $element }}
{{ end -}}
{{- else }}
[{{ $section }}]
{{- include "linxo-webhook.toml.keys" $value }}
{{ end -}}
{{- end -}}
{{- end }}

{{/* What the chart sets, by section. */}}
{{- define "linxo-webhook.own" -}}
listener:
  address: "0.0.0.0:8443"
  {{- with .Values.service.proxyProtocol }}
  {{- if .enabled }}
  {{- if not .networks }}{{ fail "service.proxyProtocol.networks must name the addresses that the balancer connects from: headers of anybody else are not believed" }}{{ end }}
  proxy_protocol: required
  proxy_networks: {{ toJson .networks }}
  {{- end }}
  {{- end }}
tls:
  certificate: certs/tls.crt
  key: certs/tls.key
inbox:
  {{- if eq .Values.inbox.store "sqlite" }}
  url: "sqlite:data/inbox.db"
  {{- else }}
  {{- with .Values.inbox.postgres }}
  url: {{ required "inbox.postgres.url must name the database, such as postgres://linxo_webhook@postgres.example.com/linxo_webhook" .url | toJson }}
  {{- with .password }}
  password: { file: {{ printf "secrets/%s" . | toJson }} }
  {{- end }}
  {{- with .authorities }}
  authorities: {{ toJson . }}
  {{- end }}
  {{- with .certificate }}
  certificate: {{ toJson . }}
  {{- end }}
  {{- with .certificateKey }}
  certificate_key: {{ toJson . }}
  {{- end }}
  {{- with .keys }}
  keys: {{ toJson . }}
  {{- end }}
  folder: data
  journal: {{ ternary "data/journal" "off" .journal | quote }}
  {{- end }}
  {{- end }}
  {{- with .Values.inbox.key }}
  key:
    {{- range . }}
    - { file: {{ printf "secrets/%s" . | toJson }} }
    {{- end }}
  {{- end }}
admin:
  address: "0.0.0.0:9090"
  token: { file: secrets/admin }
{{- end }}

{{- define "linxo-webhook.toml.keys" -}}
{{- range $key, $value := . }}
{{ $key }} = {{ include "linxo-webhook.toml.value" $value }}
{{- end }}
{{- end }}

{{/* JSON is TOML for texts, numbers and switches. `toToml` would write every number with a fraction. */}}
{{- define "linxo-webhook.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{ range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ $key }} = {{ include "linxo-webhook.toml.value" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "linxo-webhook.toml.value" $value }}{{ end }}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}
