# The official image's paths, user and commands on the locked jars and the Java of the embedded stack.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN useradd --uid 1000 --no-create-home appuser && mkdir -p /var/lib/kafka/data && chown 1000:1000 /var/lib/kafka/data
COPY java /opt/java
COPY kafka /opt/kafka
ENV JAVA=/opt/java/bin/java
RUN $JAVA -Xshare:dump && /opt/kafka/bin/kafka-archive.sh
VOLUME /var/lib/kafka/data
USER 1000
CMD ["/opt/kafka/bin/kafka-server-start.sh"]
