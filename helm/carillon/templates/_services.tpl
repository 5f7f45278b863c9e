{{- /*
The services of a component. Takes a dict: root, component.
*/ -}}
{{- define "carillon.services" -}}
{{- $ := .root -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "carillon.partName" . }}
  labels: {{- include "carillon.componentLabels" . | nindent 4 }}
  {{- with $.Values.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $.Values.service.type }}
  selector: {{- include "carillon.componentSelector" . | nindent 4 }}
  ports:
    - name: http
      port: {{ $.Values.service.port }}
      targetPort: http
---
# Also a StatefulSet's governing service. It answers before a pod is ready, so that metrics of one that starts or drains are
# still scraped.
apiVersion: v1
kind: Service
metadata:
  name: {{ include "carillon.partName" . }}-internal
  labels:
    {{- include "carillon.labels" $ | nindent 4 }}
    app.kubernetes.io/component: internal
spec:
  type: ClusterIP
  publishNotReadyAddresses: true
  selector: {{- include "carillon.componentSelector" . | nindent 4 }}
  ports:
    - name: internal
      port: {{ $.Values.internalService.port }}
      targetPort: internal
{{- if eq .component "hub" }}
---
# Where services publish: hubs that are ready, so that no publish goes to one that drains or has no bus.
apiVersion: v1
kind: Service
metadata:
  name: {{ include "carillon.partName" . }}-publish
  labels: {{- include "carillon.componentLabels" . | nindent 4 }}
spec:
  type: ClusterIP
  selector: {{- include "carillon.componentSelector" . | nindent 4 }}
  ports:
    - name: internal
      port: {{ $.Values.internalService.port }}
      targetPort: internal
{{- else }}
---
# For services that call by gRPC.
apiVersion: v1
kind: Service
metadata:
  name: {{ include "carillon.partName" . }}-grpc
  labels: {{- include "carillon.componentLabels" . | nindent 4 }}
spec:
  type: ClusterIP
  selector: {{- include "carillon.componentSelector" . | nindent 4 }}
  ports:
    - name: grpc
      port: 9505
      targetPort: grpc
      appProtocol: kubernetes.io/h2c
{{- end }}
{{- end -}}
