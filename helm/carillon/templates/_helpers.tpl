{{- define "carillon.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "carillon.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "carillon.labels" -}}
{{ include "carillon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "carillon.secretName" -}}
{{- .Values.auth.existingSecret | default (include "carillon.name" .) -}}
{{- end -}}

{{- define "carillon.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "carillon.name" .) -}}
{{- end -}}

{{- /*
The component with the database, as YAML: the dispatcher of a cluster, or all of it in one.
*/ -}}
{{- define "carillon.stateful" -}}
{{- if .Values.cluster.enabled -}}
component: dispatcher
public: 9005
internal: 9006
{{- else -}}
component: standalone
public: 8000
internal: 8001
{{- end -}}
{{- end -}}

{{- /*
Whether dispatchers are a Deployment: "true" or nothing.
*/ -}}
{{- define "carillon.manyDispatchers" -}}
{{- if not (has .Values.database.kind (list "sqlite" "postgres")) -}}
{{- fail "set database.kind: sqlite or postgres" -}}
{{- end -}}
{{- if and .Values.cluster.enabled (eq .Values.database.kind "postgres") -}}
true
{{- end -}}
{{- end -}}

{{- /*
Names and labels of a component. Standalone has those that it had before there were others. Each takes a dict: root, component.
*/ -}}
{{- define "carillon.partName" -}}
{{- if eq .component "standalone" -}}
{{- include "carillon.name" .root -}}
{{- else -}}
{{- printf "%s-%s" (include "carillon.name" .root) .component -}}
{{- end -}}
{{- end -}}

{{- define "carillon.componentSelector" -}}
{{ include "carillon.selector" .root }}
{{- if ne .component "standalone" }}
app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end -}}

{{- define "carillon.componentLabels" -}}
{{ include "carillon.labels" .root }}
{{- if ne .component "standalone" }}
app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end -}}
