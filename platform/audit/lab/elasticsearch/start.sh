#!/bin/sh
# Upstream's jars without its start script, which is not published.
. /etc/elasticsearch/prepare.sh
cd /tmp
home=/usr/share/elasticsearch
exec java -Xms512m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError \
  -Des.path.home=$home -Des.path.conf=$ES_PATH_CONF -Djava.io.tmpdir=/tmp -cp "$home/lib/*" $home/Launcher.java
