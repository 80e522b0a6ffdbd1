{{- /* A job of Helm's that runs one of files/*.py in the operator's image;
with (dict "root" . "name" … "component" … "files" list of paths "argv" list "seconds" … "retries" … "secrets" variables from Secrets). Pod Security restricted. */ -}}
{{- define "corral.script" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "corral.labels" .root | nindent 4 }}
  annotations:
    {{- toYaml .hook | nindent 4 }}
    helm.sh/hook-weight: "-5"
data:
  {{- range .files }}
  {{ base . }}: |
    {{- $.root.Files.Get . | nindent 4 }}
  {{- end }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "corral.labels" .root | nindent 4 }}
  annotations:
    {{- toYaml .hook | nindent 4 }}
    helm.sh/hook-weight: "-5"
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "corral.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    {{- toYaml .hook | nindent 4 }}
spec:
  backoffLimit: {{ .retries }}
  activeDeadlineSeconds: {{ .seconds }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: corral
        app.kubernetes.io/component: {{ .component }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ .name }}
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        {{- include "corral.podSecurity" .root | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "corral.image" (dict "image" .root.Values.image "root" .root) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: {{ concat (list "python3" "-B") .argv | toJson }}
          {{- with .secrets }}
          env:
            {{- range $variable, $value := . }}
            - name: {{ $variable }}
              valueFrom: {secretKeyRef: {name: {{ $value.secret }}, key: {{ $value.key }}}}
            {{- end }}
          {{- end }}
          securityContext:
            {{- include "corral.containerSecurity" .root | nindent 12 }}
          resources:
            requests: {cpu: 10m, memory: 32Mi}
            limits: {memory: 128Mi}
          volumeMounts:
            - {name: files, mountPath: /scripts, readOnly: true}
      volumes:
        - name: files
          configMap: {name: {{ .name }}}
{{- end }}
