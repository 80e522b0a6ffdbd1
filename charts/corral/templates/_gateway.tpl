{{- /* Names of the gateway, and what it is told by its environment: gateway/src/corral_gateway/settings.py. */ -}}

{{- define "corral.gateway" -}}
{{ include "corral.name" . }}-gateway
{{- end }}

{{- define "corral.gatewayAccount" -}}
{{ .Values.gateway.serviceAccount.name | default (include "corral.gateway" .) }}
{{- end }}

{{- define "corral.gatewaySelector" -}}
app.kubernetes.io/name: corral
app.kubernetes.io/component: gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* "true" if there may be several; then they share a database. */ -}}
{{- define "corral.gatewayShared" -}}
{{- if .Values.gateway.database.urlSecret.name }}
{{- if not .Values.gateway.audit.signingKeySecret.name }}
{{- fail "gateway.audit.signingKeySecret.name: gateways with one database sign one audit; name a Secret with the key: openssl genpkey -algorithm ed25519 -out audit.key" }}
{{- end -}}
true
{{- else if .Values.gateway.autoscaling.enabled }}
{{- fail "gateway.autoscaling.enabled: several gateways need a database in common; name a Secret with the URL of a PostgreSQL in gateway.database.urlSecret.name" }}
{{- else if gt (int .Values.gateway.replicas) 1 }}
{{- fail (printf "gateway.replicas: %d gateways need a database in common; name a Secret with the URL of a PostgreSQL in gateway.database.urlSecret.name" (int .Values.gateway.replicas)) }}
{{- end }}
{{- end }}

{{- /* Where its callers' tasks are; a template if {caller} is in it. */ -}}
{{- define "corral.taskNamespace" -}}
{{ .Values.gateway.taskNamespace | default (include "corral.testNamespace" .) }}
{{- end }}

{{- /* JSON list: the namespaces of its callers' tasks; [""]: any. */ -}}
{{- define "corral.taskNamespaces" -}}
{{- $served := include "corral.namespaces" . | fromJsonArray }}
{{- $named := dict "gateway.taskNamespace" (include "corral.taskNamespace" .) }}
{{- range $caller, $namespace := .Values.gateway.callerNamespaces }}
{{- $_ := set $named (printf "gateway.callerNamespaces.%s" $caller) $namespace }}
{{- end }}
{{- range $field, $namespace := $named }}
{{- if contains "{" (replace "{caller}" "" $namespace) }}
{{- fail (printf "%s: %s: {caller} is all that may stand in braces" $field $namespace) }}
{{- else if has "*" $served }}
{{- else if contains "{caller}" $namespace }}
{{- fail (printf "%s: %s: a namespace for each caller needs namespaces [\"*\"]" $field $namespace) }}
{{- else if not (has $namespace $served) }}
{{- fail (printf "%s: %s is not served; add it to namespaces" $field $namespace) }}
{{- end }}
{{- end }}
{{- if contains "{caller}" (include "corral.taskNamespace" .) }}{{ list "" | toJson }}{{ else }}{{ values $named | uniq | sortAlpha | toJson }}{{ end }}
{{- end }}

{{- define "corral.gatewaySettings" -}}
{{- $levels := list "read" "write" "execute" "network" "system" "admin" }}
{{- $blocked := .Values.policy.blockedPermissions }}
{{- if not (has "admin" .Values.policy.permissions) }}
{{- range $levels }}
{{- if not (has . $.Values.policy.permissions) }}{{ $blocked = append $blocked . }}{{ end }}
{{- end }}
{{- end }}
HOST: "0.0.0.0"
PORT: "8000"
CORRAL_METRICS_PORT: "2113"
CORRAL_GRPC_PORT: "50051"
CORRAL_DATA_DIR: /var/lib/corral
CORRAL_EXECUTOR: cluster
CORRAL_NAMESPACE: {{ include "corral.taskNamespace" . | quote }}
CORRAL_CALLER_NAMESPACES: {{ .Values.gateway.callerNamespaces | toJson | quote }}
CORRAL_WATCH_NAMESPACES: {{ include "corral.namespaces" . | fromJsonArray | join "," | quote }}
{{ include "corral.artifactsSettings" . | trim }}
{{- with .Values.gateway.jwt.issuers }}
CORRAL_JWT_ISSUERS: {{ toJson . | quote }}
{{- end }}
{{- if .Values.gateway.grpc.tlsSecret }}
CORRAL_GRPC_TLS_CERT: /etc/corral/tls/tls.crt
CORRAL_GRPC_TLS_KEY: /etc/corral/tls/tls.key
{{- end }}
{{- if .Values.gateway.audit.signingKeySecret.name }}
CORRAL_AUDIT_KEY: /etc/corral/audit/{{ .Values.gateway.audit.signingKeySecret.key }}
{{- end }}
CORRAL_FIRST_KEY: "false"
CORRAL_DRAIN_SECONDS: {{ .Values.gateway.drainSeconds | int | quote }}
CORRAL_GRACE_SECONDS: {{ .Values.gateway.graceSeconds | int | quote }}
CORRAL_LOG_FORMAT: {{ .Values.gateway.logFormat | quote }}
CORRAL_RATE_LIMIT_CALLER: {{ .Values.gateway.rateLimits.caller | quote }}
CORRAL_RATE_LIMIT_GLOBAL: {{ .Values.gateway.rateLimits.all | quote }}
MAX_REQUEST_SIZE: {{ .Values.gateway.maxRequestBytes | int | quote }}
CORRAL_TOOL_REGISTRATION: {{ .Values.gateway.toolRegistration | quote }}
CORRAL_KUBERNETES_TOKENS: {{ .Values.gateway.kubernetesTokens | quote }}
CORRAL_KUBERNETES_AUDIENCES: {{ .Values.gateway.kubernetesAudiences | join "," | quote }}
CORS_ORIGINS: {{ .Values.gateway.corsOrigins | join "," | quote }}
# What the operator's policy grants to nobody is refused at the door.
BLOCKED_PERMISSIONS: {{ $blocked | uniq | join "," | quote }}
{{- end }}

{{- /* Settings from Secrets: NAME: {secret: …, key: …}. */ -}}
{{- define "corral.gatewaySecrets" -}}
{{- with .Values.gateway.database.urlSecret }}{{ if .name }}
CORRAL_DATABASE_URL: {secret: {{ .name }}, key: {{ .key }}}
{{- end }}{{ end }}
{{- with .Values.gateway.rateLimits.storeSecret }}{{ if .name }}
CORRAL_RATE_LIMIT_URL: {secret: {{ .name }}, key: {{ .key }}}
{{- end }}{{ end }}
{{ include "corral.artifactsSecrets" . | trim }}
{{- end }}
