{{/* The name of everything that there is once per release. */}}
{{- define "perdure.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "perdure.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "perdure.labels" -}}
{{ include "perdure.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "perdure.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "perdure.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
The Deployments of the mode, as YAML: the binary and its arguments, whether it serves the public API, and the port at which other
services call it.
*/}}
{{- define "perdure.workloads" -}}
{{- if eq .Values.mode "services" -}}
frontend: {command: [/usr/local/bin/frontend], public: true, values: frontend}
history: {command: [/usr/local/bin/history], internal: 7234, listen: PERDURE_GRPC_ADDRESS, values: history}
matching: {command: [/usr/local/bin/matching], internal: 7235, listen: PERDURE_GRPC_ADDRESS, values: matching}
{{- else -}}
server: {command: [/usr/local/bin/perdure, server, start], public: true, internal: 7236, listen: PERDURE_INTERNAL_ADDRESS, values: allInOne}
{{- end -}}
{{- end -}}

{{/* The component that the Service leads to. */}}
{{- define "perdure.public" -}}
{{- if eq .Values.mode "services" }}frontend{{ else }}server{{ end -}}
{{- end -}}
