{{- /* Names, labels and lists that several templates need. */ -}}

{{- define "corral.name" -}}
{{- if contains "corral" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-corral" (.Release.Name | trunc 33 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- /* Of what has no namespace: two releases in one cluster must not meet. */ -}}
{{- define "corral.clusterName" -}}
{{ include "corral.name" . }}.{{ .Release.Namespace }}
{{- end }}

{{- define "corral.operator" -}}
{{ include "corral.name" . }}-operator
{{- end }}

{{- define "corral.account" -}}
{{ .Values.serviceAccount.name | default (include "corral.operator" .) }}
{{- end }}

{{- define "corral.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "corral.account" . }}
{{- end }}

{{- define "corral.labels" -}}
app.kubernetes.io/name: corral
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* What the operator's pods are known by. The policies of sandboxes let them in. */ -}}
{{- define "corral.operatorSelector" -}}
app.kubernetes.io/name: corral
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* repository, tag and digest -> reference; with (dict "image" … "root" .) */ -}}
{{- define "corral.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "corral.sandboxImage" -}}
{{ include "corral.image" (dict "image" .Values.sandbox.image "root" .) }}
{{- end }}

{{- /* JSON list: ["*"], or names. */ -}}
{{- define "corral.namespaces" -}}
{{- if .Values.namespaces }}{{ .Values.namespaces | uniq | toJson }}{{ else }}{{ list .Release.Namespace | toJson }}{{ end }}
{{- end }}

{{- /* "true" if all namespaces are served. */ -}}
{{- define "corral.everywhere" -}}
{{- if has "*" (include "corral.namespaces" . | fromJsonArray) }}true{{ end }}
{{- end }}

{{- /* Where helm test runs its task: this namespace if it is served, else the first that is. */ -}}
{{- define "corral.testNamespace" -}}
{{- $namespaces := include "corral.namespaces" . | fromJsonArray }}
{{- if or (has "*" $namespaces) (has .Release.Namespace $namespaces) }}{{ .Release.Namespace }}{{ else }}{{ first $namespaces }}{{ end }}
{{- end }}

{{- /* A namespaceSelector's content for the served namespaces. */ -}}
{{- define "corral.servedSelector" -}}
{{- if include "corral.everywhere" . -}}
{}
{{- else -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ include "corral.namespaces" . }}
{{- end }}
{{- end }}

{{- /* JSON list: label selectors of pods of this namespace that may reach runners, beside the operator. */ -}}
{{- define "corral.runnerSources" -}}
{{- $sources := .Values.runnerSources }}
{{- if and .Values.gateway.enabled .Values.gateway.liveOutput }}
{{- $sources = prepend $sources (printf "app.kubernetes.io/name=corral,app.kubernetes.io/component=gateway,app.kubernetes.io/instance=%s" .Release.Name) }}
{{- end }}
{{- $sources | toJson }}
{{- end }}

{{- /* "true" if something for the Prometheus operator is wanted; with (dict "enabled" … "kind" … "root" .) */ -}}
{{- define "corral.wanted" -}}
{{- if kindIs "bool" .enabled }}{{ if .enabled }}true{{ end }}
{{- else if .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) }}true{{ end }}
{{- end }}

{{- /* Pod and container security contexts: Pod Security "restricted" and a little more. */ -}}
{{- define "corral.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "corral.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
