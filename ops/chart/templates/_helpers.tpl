{{- define "burnish.name" -}}
{{- if contains "burnish" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-burnish" .Release.Name }}{{ end -}}
{{- end }}

{{- define "burnish.selector" -}}
app.kubernetes.io/name: burnish
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "burnish.labels" -}}
{{ include "burnish.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "burnish.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "burnish.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "burnish.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- /* One variable from the Secret: a list of name, key and whether it may be missing. */ -}}
{{- define "burnish.secret" -}}
- name: {{ index .entry 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.secretName }}
      key: {{ index .entry 1 }}
      {{- if index .entry 2 }}
      optional: true
      {{- end }}
{{- end }}

{{- /* What every process of ours reads; MLflow's own is in its template. */ -}}
{{- define "burnish.env" -}}
{{- $root := . -}}
- {name: BURNISH_DATA_DIR, value: /data}
- {name: BURNISH_HOST, value: 0.0.0.0}
- {name: BURNISH_PORT, value: "8080"}
- {name: BURNISH_MLFLOW_URI, value: "http://{{ include "burnish.name" . }}-mlflow:5000"}
- {name: MLFLOW_TRACKING_USERNAME, value: burnish}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
{{- $secrets := list
  (list "MLFLOW_TRACKING_PASSWORD" "mlflow-password" false)
  (list "BURNISH_REDIS_URL" "redis-url" false)
  (list "BURNISH_DATABASE_URL" "database-url" false)
  (list "BURNISH_KEYS_URL" "keys-url" false)
  (list "BURNISH_SECRET" "secret" false)
  (list "BURNISH_SIGNING_KEY" "signing-key" false)
  (list "BURNISH_SECRET_RETIRED" "secret-retired" true)
  (list "BURNISH_SIGNING_KEY_RETIRED" "signing-key-retired" true)
  (list "BURNISH_KAFKA_BOOTSTRAP" "kafka-bootstrap" true)
  (list "BURNISH_BROKER_URL" "broker-url" true) }}
{{- range $secrets }}
{{ include "burnish.secret" (dict "root" $root "entry" .) }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "burnish.claim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end }}
