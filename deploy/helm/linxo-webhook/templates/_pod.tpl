{{/* What both workloads and the job have in common. Fits the Pod Security Standard "restricted". */}}
{{- define "linxo-webhook.security" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "linxo-webhook.container" -}}
{{- $image := .Values.image -}}
image: {{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ $image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- with .Values.env }}
env: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "linxo-webhook.mounts" -}}
- { name: config, mountPath: /config, readOnly: true }
- { name: certs, mountPath: /certs, readOnly: true }
- { name: secrets, mountPath: /secrets, readOnly: true }
{{- end }}

{{/* A dictionary of "top" and "config", the name of the ConfigMap. */}}
{{- define "linxo-webhook.volumes" -}}
- name: config
  configMap: { name: {{ .config }} }
# Of root, readable by the group of the pod (fsGroup), changed by a swapped link: a new version is taken into use.
- name: certs
  projected:
    defaultMode: 0440
    sources:
      - secret: { name: {{ .top.Values.tls.secret }} }
      {{- range .top.Values.tls.files }}
      {{- range $kind, $name := . }}
      - {{ $kind }}: { name: {{ $name }} }
      {{- end }}
      {{- end }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range .top.Values.secrets }}
      - secret: { name: {{ . }} }
      {{- end }}
{{- end }}

{{/* A receiver, for a Deployment as for a StatefulSet. */}}
{{- define "linxo-webhook.pod" -}}
{{- $name := include "linxo-webhook.name" . -}}
metadata:
  labels:
    {{- include "linxo-webhook.labels" (dict "top" . "component" "receiver") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Another configuration is another pod. Certificates and secrets are taken into use without a restart.
    checksum/config: {{ include "linxo-webhook.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "linxo-webhook.security" . | nindent 2 }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if gt (int .Values.replicas) 1 }}
  {{- with .Values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ .topologyKey }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "linxo-webhook.selector" $ | nindent 10 }}
      {{- if not (include "linxo-webhook.isStateful" $) }}
      # The receivers of one version among themselves, or those that are being replaced would count.
      matchLabelKeys: [pod-template-hash]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- end }}
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainSeconds }}
  containers:
    - name: linxo-webhook
      {{- include "linxo-webhook.container" . | nindent 6 }}
      ports:
        - { name: https, containerPort: 8443 }
        # Not in the service that Linxo calls: for probes, and for a scraper that has the token.
        - { name: admin, containerPort: 9090 }
      # The probes' paths need no token. Alive says only that the process serves: restarting one whose disk is full, or whose
      # PostgreSQL is away, would help nobody, also while it starts. Ready says that an event would be accepted now. The admin
      # listener answers once the inbox is open; with SQLite an upgrade that migrates it may take minutes.
      startupProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 450
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 1
      lifecycle:
        # Balancers keep sending for a moment after a pod was told to stop.
        preStop:
          sleep: { seconds: {{ .Values.preStopSeconds }} }
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /data }
        {{- include "linxo-webhook.mounts" . | nindent 8 }}
  volumes:
    {{- include "linxo-webhook.volumes" (dict "top" . "config" $name) | nindent 4 }}
    {{- if not (include "linxo-webhook.isStateful" .) }}
    # The socket for commands inside the pod. Nothing that has to last.
    - name: data
      emptyDir: { sizeLimit: 64Mi }
    {{- end }}
{{- end }}
