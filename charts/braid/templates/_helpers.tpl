{{/* Labels of every object. Called with a dict: root, component (may be empty). */}}
{{- define "braid.labels" -}}
{{ include "braid.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* Labels by which pods are found. They never change: the selector of a workload cannot. */}}
{{- define "braid.selector" -}}
app.kubernetes.io/name: braid
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* The labels of a pod: its selector, the user's, and nothing that an upgrade of the chart alone would change. */}}
{{- define "braid.podLabels" -}}
{{ include "braid.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "braid.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What every pod of Braid has. */}}
{{- define "braid.pod" -}}
# Variables that name the Service braid-webhook would look like Braid's own.
enableServiceLinks: false
automountServiceAccountToken: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The API server's address, where it is not the Service's. */}}
{{- define "braid.apiServer" -}}
{{- if .Values.apiServer.host -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* The container's rights: none. */}}
{{- define "braid.rights" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
"yes" if the definition of this name is ours to install: there is none, or this release made the one that is there.
Without a cluster to ask (helm template) it is.
*/}}
{{- define "braid.ours" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- if $found -}}
{{- $notes := $found.metadata.annotations | default dict -}}
{{- $name := get $notes "meta.helm.sh/release-name" -}}
{{- $namespace := get $notes "meta.helm.sh/release-namespace" -}}
{{- if and (eq $name .root.Release.Name) (eq $namespace .root.Release.Namespace) }}yes{{ end -}}
{{- else -}}
yes
{{- end -}}
{{- end }}
