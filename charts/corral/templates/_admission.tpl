{{- /* Parts of several ValidatingAdmissionPolicies. */ -}}

{{- /* CEL: whether an image has an allowed prefix. "team/a" stands for team/a:…, team/a@… and team/a/…, not team/ab. */ -}}
{{- define "corral.imageAllowed" -}}
{{- /* One line: it stands in a folded block. */ -}}
{{ .values.sandbox.allowedImages | toJson }}.exists(p, {{ .image }} == p || {{ .image }}.startsWith(p.endsWith("/") ? p : p + "/") || {{ .image }}.startsWith(p + ":") || {{ .image }}.startsWith(p + "@"))
{{- end }}

{{- define "corral.imageRemedy" -}}
{{ printf " is not an allowed image; use one of %s, or add its prefix to the chart's sandbox.allowedImages" (join ", " .Values.sandbox.allowedImages) | quote }}
{{- end }}

{{- /* Validations on a CEL list of names of Secrets; with (dict "values" … "names" CEL "field" …) */ -}}
{{- define "corral.secretRules" -}}
# The key that the runners' tokens are derived from, and what Helm keeps of a release.
- expression: {{ .names }}.all(n, n != "corral-runner-key" && !n.startsWith("sh.helm.release."))
  message: '{{ .field }}: Corral''s own Secrets and Helm''s cannot be given to a tool; name another Secret'
{{- if not .values.secrets.allowed }}
- expression: size({{ .names }}) == 0
  message: '{{ .field }}: no Secrets here; the chart''s secrets.allowed is false'
{{- else if .values.secrets.namePrefixes }}
- expression: {{ .names }}.all(n, {{ .values.secrets.namePrefixes | toJson }}.exists(p, n.startsWith(p)))
  message: >-
    {{ .field }}: names of Secrets must begin with {{ join " or " .values.secrets.namePrefixes }}; rename it, or add its
    prefix to the chart's secrets.namePrefixes
{{- end }}
{{- end }}

{{- /* Policy and binding for the served namespaces; with (dict "root" . "name" …): what both begin with. */ -}}
{{- define "corral.servedBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}.{{ include "corral.clusterName" .root }}
  labels:
    {{- include "corral.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}.{{ include "corral.clusterName" .root }}
  validationActions: {{ .root.Values.admission.actions | toJson }}
  matchResources:
    namespaceSelector:
      {{- include "corral.servedSelector" .root | nindent 6 }}
{{- end }}
