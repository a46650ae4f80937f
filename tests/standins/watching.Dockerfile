# Prometheus or Alertmanager of the build machine's own Debian package, under the official image's user and volume.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN mkdir -p /prometheus /alertmanager && chown 65534:65534 /prometheus /alertmanager && ln -s program /bin/alertmanager
COPY program /bin/program
# Debian's Alertmanager reads its templates from here; the official one has them inside.
COPY share /usr/share/prometheus/alertmanager
VOLUME ["/prometheus", "/alertmanager"]
USER 65534
ENTRYPOINT ["/bin/program"]
