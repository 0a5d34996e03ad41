{{- define "linxo-webhook.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Of the receivers; labels that never change. */}}
{{- define "linxo-webhook.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: receiver
{{- end }}

{{/* Of everything; a dictionary of "top" and "component". */}}
{{- define "linxo-webhook.labels" -}}
app.kubernetes.io/name: {{ .top.Chart.Name }}
app.kubernetes.io/instance: {{ .top.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .top.Values.image.tag | default .top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .top.Chart.Name .top.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Whether each receiver has a volume of its own. */}}
{{- define "linxo-webhook.isStateful" -}}
{{- if or (eq .Values.inbox.store "sqlite") .Values.inbox.postgres.journal }}true{{ end }}
{{- end }}
