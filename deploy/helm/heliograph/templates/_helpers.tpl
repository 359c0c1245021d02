{{- define "heliograph.name" -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{- define "heliograph.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- define "heliograph.labels" -}}
app.kubernetes.io/name: heliograph
app.kubernetes.io/instance: {{ include "heliograph.name" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: heliograph
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "heliograph.selector" -}}
app.kubernetes.io/name: heliograph
app.kubernetes.io/instance: {{ include "heliograph.name" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* A ConfigMap's name has a digest of its content: an edge that was offline would go on with the old content under the
same name, and a pod starts anew only where its own manifest changes. */}}
{{- define "heliograph.hashed" -}}
{{- printf "%s-%s" .name (.content | toJson | sha256sum | trunc 10) -}}
{{- end -}}

{{- define "heliograph.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "heliograph.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "heliograph.pullSecrets" -}}
{{- with .Values.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How pods of the cluster reach the broker, with the file of a login. */}}
{{- define "heliograph.natsUrl" -}}
{{- printf "tls://%s-nats:4222?ca=/secrets/ca.pem&credentials=%s" (include "heliograph.name" .root) .login -}}
{{- end -}}

{{/* What workers may reach; the default is the agent's own. */}}
{{- define "heliograph.sitePolicy" -}}
{{- . | default "# the agent's defaults: a worker reaches its own files and its node's broker\n" -}}
{{- end -}}
