{{- /* What the operator is told by its environment: operator/src/corral_operator/settings.py. */ -}}
{{- define "corral.settings" -}}
CORRAL_NAMESPACES: {{ include "corral.namespaces" . | quote }}
CORRAL_SANDBOX_IMAGE: {{ include "corral.sandboxImage" . | quote }}
CORRAL_IMAGE_PULL_POLICY: {{ .Values.sandbox.image.pullPolicy | quote }}
CORRAL_IMAGE_PULL_SECRETS: {{ .Values.imagePullSecrets | toJson | quote }}
CORRAL_HOST_USERS: {{ .Values.sandbox.hostUsers | quote }}
{{- with .Values.sandbox.runtimeClassName }}
CORRAL_RUNTIME_CLASS: {{ . | quote }}
{{- end }}
CORRAL_ALLOWED_RUNTIME_CLASSES: {{ .Values.sandbox.allowedRuntimeClassNames | toJson | quote }}
CORRAL_CPU_REQUEST_FRACTION: {{ .Values.sandbox.cpuRequestFraction | quote }}
CORRAL_MEMORY_REQUEST_FRACTION: {{ .Values.sandbox.memoryRequestFraction | quote }}
{{- with .Values.sandbox.serviceAccountName }}
CORRAL_SERVICE_ACCOUNT: {{ . | quote }}
{{- end }}
CORRAL_LATE_SECRETS: {{ .Values.secrets.lateNamespaces | toJson | quote }}
CORRAL_RUNNER_SOURCES: {{ include "corral.runnerSources" . | quote }}
CORRAL_VERIFY_NETWORK_POLICY: {{ .Values.networkPolicy.verify | quote }}
CORRAL_REQUIRE_NETWORK_POLICY: {{ .Values.networkPolicy.require | quote }}
CORRAL_POLICY_FILE: /etc/corral/policy.yaml
CORRAL_LEASE_SECONDS: {{ .Values.operator.leaseSeconds | quote }}
CORRAL_POD_START_SECONDS: {{ .Values.sandbox.startSeconds | quote }}
CORRAL_LINGER_SECONDS: {{ .Values.sandbox.lingerSeconds | quote }}
{{ include "corral.artifactsSettings" . | trim }}
CORRAL_METRICS_PORT: "9090"
CORRAL_HEALTH_PORT: "8080"
CORRAL_LOG_FORMAT: {{ .Values.operator.logFormat | quote }}
{{- end }}

{{- /* The policy that tasks are held against: corral.policy.Policy, camelCase. */ -}}
{{- define "corral.policyFile" -}}
{{- toYaml .Values.policy }}
{{- end }}
