{{/* Kubernetes takes 63 characters; ten are for what the migration job adds. */}}
{{- define "weighbridge.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "weighbridge.selector" -}}
app.kubernetes.io/name: weighbridge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weighbridge.labels" -}}
{{ include "weighbridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "weighbridge.secret" -}}
{{ .Values.secret.existing | default (include "weighbridge.name" .) }}
{{- end }}

{{- define "weighbridge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Under which names it is called: the Service's, the Ingress's, and the pod's own address, by which Prometheus finds it. */}}
{{- define "weighbridge.hosts" -}}
{{- $name := include "weighbridge.name" . -}}
{{- $namespace := .Release.Namespace -}}
{{- $hosts := list "$(POD_IP)" $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s.svc.cluster.local" $name $namespace) -}}
{{- if .Values.ingress.enabled }}{{ $hosts = append $hosts .Values.ingress.host }}{{ end -}}
{{- join "," (concat $hosts .Values.allowedHosts) -}}
{{- end }}

{{- define "weighbridge.env" -}}
- name: OPENROUTER_API_KEY_FILE
  value: /run/secrets/weighbridge/upstream-key
{{- if .Values.shared.adminKey }}
- name: WEIGHBRIDGE_ADMIN_KEY_FILE
  value: /run/secrets/weighbridge/admin-key
{{- end }}
{{- if .Values.shared.database }}
- name: WEIGHBRIDGE_DATABASE_URL_FILE
  value: /run/secrets/weighbridge/database-url
{{- end }}
{{- if .Values.shared.redis }}
- name: WEIGHBRIDGE_REDIS_URL_FILE
  value: /run/secrets/weighbridge/redis-url
{{- end }}
{{- if .Values.upstreamUrl }}
- name: WEIGHBRIDGE_UPSTREAM_URL
  value: {{ .Values.upstreamUrl | quote }}
{{- end }}
{{- if .Values.config }}
- name: WEIGHBRIDGE_CONFIG
  value: /etc/weighbridge/weighbridge.toml
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "weighbridge.address" -}}
{{- if .Values.ingress.enabled -}}
{{ ternary "https" "http" (ne .Values.ingress.tlsSecret "") }}://{{ .Values.ingress.host }}
{{- else -}}
http://{{ include "weighbridge.name" . }}.{{ .Release.Namespace }}:{{ .Values.service.port }}
{{- end -}}
{{- end }}

{{- define "weighbridge.mounts" -}}
- {name: secrets, mountPath: /run/secrets/weighbridge, readOnly: true}
- {name: data, mountPath: /data}
{{- if .Values.config }}
- {name: config, mountPath: /etc/weighbridge, readOnly: true}
{{- end }}
{{- end }}

{{- define "weighbridge.volumes" -}}
- name: secrets
  secret:
    secretName: {{ include "weighbridge.secret" . }}
    defaultMode: 288 # 0440
{{- if .Values.config }}
- name: config
  configMap:
    name: {{ include "weighbridge.name" . }}
{{- end }}
{{- end }}

{{- define "weighbridge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "weighbridge.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
