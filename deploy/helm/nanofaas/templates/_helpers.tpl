{{- define "nanofaas.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* 50: suffixes follow, and Pods of a StatefulSet get labels that end with a hash of ten. */}}
{{- define "nanofaas.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "nanofaas.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "nanofaas.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "nanofaas.selector" -}}
app.kubernetes.io/name: {{ include "nanofaas.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "nanofaas.labels" -}}
{{ include "nanofaas.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "nanofaas.account" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "nanofaas.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "nanofaas.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "nanofaas.functionsNamespace" -}}
{{- default .Release.Namespace .Values.functions.namespace }}
{{- end }}

{{- define "nanofaas.installation" -}}
{{- default .Release.Name .Values.functions.installation }}
{{- end }}

{{- /* The Service of the API of metrics, and the Secret of its certificate. */}}
{{- define "nanofaas.metricsApi" -}}
{{- printf "%s-metrics-api" (include "nanofaas.fullname" .) }}
{{- end }}

{{- /* An address and a port that listens there. */}}
{{- define "nanofaas.bind" -}}
{{- $address := (index . 0).Values.listenAddress -}}
{{- printf "%s:%d" (ternary (printf "[%s]" $address) $address (contains ":" $address)) (index . 1) }}
{{- end }}

{{- /* What restricted Pod Security asks of a Pod. */}}
{{- define "nanofaas.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.userId }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.groupId }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "nanofaas.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end }}

{{- /* A value in TOML. Numbers of values are floating-point; a string of JSON is a string of TOML. */}}
{{- define "nanofaas.toml" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else if kindIs "slice" . }}[{{ range $i, $each := . }}{{ if $i }}, {{ end }}{{ include "nanofaas.toml" $each }}{{ end }}]{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* Names by which the server is called: of a Service in all its forms, of the ingress, and what the values add. */}}
{{- define "nanofaas.hosts" -}}
{{- $hosts := list }}
{{- range list (include "nanofaas.fullname" .) (printf "%s-management" (include "nanofaas.fullname" .)) }}
{{- $name := . }}
{{- range list "" (printf ".%s" $.Release.Namespace) (printf ".%s.svc" $.Release.Namespace) (printf ".%s.svc.%s" $.Release.Namespace $.Values.clusterDomain) }}
{{- $hosts = append $hosts (printf "%s%s" $name .) }}
{{- end }}
{{- end }}
{{- if .Values.ingress.enabled }}
{{- range .Values.ingress.hosts }}
{{- $hosts = append $hosts .host }}
{{- end }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
{{- $hosts = concat $hosts .Values.httpRoute.hostnames }}
{{- end }}
{{- concat $hosts .Values.allowedHosts | uniq | toJson }}
{{- end }}

{{- /* A container of `helm test`: the values, a name, and arguments of nanofaas. */}}
{{- define "nanofaas.testStep" -}}
{{- $ := index . 0 -}}
- name: {{ index . 1 }}
  image: {{ include "nanofaas.image" $ }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  command: {{ concat (list "nanofaas") (index . 2) | toJson }}
  env:
    - name: NANOFAAS_ENDPOINT
      value: http://{{ include "nanofaas.fullname" $ }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}:{{ $.Values.service.port }}
  resources:
    requests:
      cpu: 50m
      memory: 32Mi
    limits:
      memory: 128Mi
  securityContext:
    {{- include "nanofaas.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - name: test
      mountPath: /test
      readOnly: true
{{- end }}
