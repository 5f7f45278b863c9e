{{- /*
What the pods of all components share. Takes a dict: root, component (standalone, hub, dispatcher), public and internal (ports),
resources, data (its folder is "volume", which somebody else brings, "scratch", or "" for none).
*/ -}}
{{- define "carillon.pod" -}}
{{- $ := .root -}}
metadata:
  labels: {{- include "carillon.componentLabels" . | nindent 4 }}
  annotations:
    # A changed file or secret is a new pod.
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") $ | sha256sum }}
    checksum/secret: {{ include (print $.Template.BasePath "/secret.yaml") $ | sha256sum }}
    {{- with $.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "carillon.serviceAccount" $ }}
  automountServiceAccountToken: false
  # Links would set CARILLON_PORT and the like, which read as configuration keys.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $.Values.terminationGracePeriodSeconds }}
  {{- with $.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: carillon
      image: "{{ $.Values.image.repository }}:{{ $.Values.image.tag | default $.Chart.AppVersion }}"
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      args:
        - {{ .component }}
        - --listen=0.0.0.0:{{ .public }}
        - --internal-listen=0.0.0.0:{{ .internal }}
        {{- if ne .component "hub" }}
        - --grpc-listen=0.0.0.0:9505
        {{- end }}
        - --data-dir=/data
        - --config=/etc/carillon/carillon.toml
      env:
        - name: CARILLON_AUTH__SECRET
          valueFrom:
            secretKeyRef:
              name: {{ include "carillon.secretName" $ }}
              key: auth-secret
        {{- if ne .component "standalone" }}
        - name: CARILLON_REDIS__KIND
          value: {{ required "set redis.kind: servers, sentinel or cluster" $.Values.redis.kind | quote }}
        - name: CARILLON_REDIS__URLS
          value: {{ required "set redis.urls: [redis://host:6379]" (join "," $.Values.redis.urls) | quote }}
        {{- with $.Values.redis.username }}
        - name: CARILLON_REDIS__USERNAME
          value: {{ . | quote }}
        {{- end }}
        - name: CARILLON_REDIS__PASSWORD
          valueFrom:
            secretKeyRef:
              name: {{ include "carillon.secretName" $ }}
              key: redis-password
              # A Redis without a password needs none.
              optional: true
        {{- end }}
        {{- if and (eq $.Values.database.kind "postgres") (ne .component "hub") }}
        - name: CARILLON_DATABASE__URL
          valueFrom:
            secretKeyRef:
              name: {{ include "carillon.secretName" $ }}
              key: database-url
        - name: CARILLON_DATABASE__POOLER
          value: {{ $.Values.database.pooler | quote }}
        {{- end }}
        {{- if and $.Values.smtp.host (ne .component "hub") }}
        - name: SMTP_HOST
          value: {{ $.Values.smtp.host | quote }}
        - name: SMTP_PORT
          value: {{ $.Values.smtp.port | quote }}
        - name: SMTP_USE_TLS
          value: {{ $.Values.smtp.useTls | quote }}
        {{- if or $.Values.smtp.from (not (contains "@" $.Values.smtp.username)) }}
        - name: SMTP_FROM
          value: {{ required "set smtp.from: smtp.username is no address" $.Values.smtp.from | quote }}
        {{- end }}
        {{- with $.Values.smtp.username }}
        - name: SMTP_USERNAME
          value: {{ . | quote }}
        - name: SMTP_PASSWORD
          valueFrom:
            secretKeyRef:
              name: {{ include "carillon.secretName" $ }}
              key: smtp-password
        {{- end }}
        {{- end }}
        {{- with $.Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .public }}
        - name: internal
          containerPort: {{ .internal }}
        {{- if ne .component "hub" }}
        - name: grpc
          containerPort: 9505
        {{- end }}
      startupProbe:
        httpGet: { path: /live, port: internal }
        periodSeconds: 1
        # Migrations of a large database run before the listeners answer.
        failureThreshold: 300
      livenessProbe:
        httpGet: { path: /live, port: internal }
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: { path: /ready, port: internal }
        periodSeconds: 2
        timeoutSeconds: 2
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        {{- if .data }}
        - name: data
          mountPath: /data
        {{- end }}
        - name: config
          mountPath: /etc/carillon
          readOnly: true
        # SQLite's temporary files.
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: config
      configMap:
        name: {{ include "carillon.name" $ }}
    - name: tmp
      emptyDir: {}
    {{- if eq .data "scratch" }}
    - name: data
      emptyDir: {}
    {{- end }}
  {{- if ne .data "volume" }}
  topologySpreadConstraints:
    # A machine that is lost should take few of them with it.
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "carillon.componentSelector" . | nindent 10 }}
  {{- end }}
  {{- with $.Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
