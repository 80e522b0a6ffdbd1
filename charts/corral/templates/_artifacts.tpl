{{- /* The artifact store: the same for the operator and the gateway. */ -}}

{{- define "corral.artifactsSettings" -}}
{{- $artifacts := .Values.artifacts }}
CORRAL_ARTIFACTS_URL: {{ $artifacts.url | quote }}
{{- if $artifacts.url }}
CORRAL_ARTIFACTS_TASK_SIZE: {{ $artifacts.taskBytes | int64 | quote }}
{{- with $artifacts.endpoint }}
AWS_ENDPOINT_URL: {{ . | quote }}
{{- end }}
{{- with $artifacts.region }}
AWS_DEFAULT_REGION: {{ . | quote }}
{{- end }}
{{- else if or $artifacts.credentialsSecret.name $artifacts.endpoint }}
{{- fail "artifacts.url: an endpoint or credentials of an artifact store are named, and no store; s3://BUCKET/PREFIX" }}
{{- end }}
{{- end }}

{{- /* NAME: {secret: …, key: …}. */ -}}
{{- define "corral.artifactsSecrets" -}}
{{- with .Values.artifacts.credentialsSecret }}{{ if .name }}
AWS_ACCESS_KEY_ID: {secret: {{ .name }}, key: {{ .accessKeyIdKey }}}
AWS_SECRET_ACCESS_KEY: {secret: {{ .name }}, key: {{ .secretAccessKeyKey }}}
{{- end }}{{ end }}
{{- end }}

{{- /* The rule of a NetworkPolicy. */ -}}
{{- define "corral.artifactsEgress" -}}
{{- if .Values.artifacts.url }}
- ports: [{protocol: TCP, port: {{ .Values.artifacts.port }}}]
  {{- with .Values.artifacts.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
