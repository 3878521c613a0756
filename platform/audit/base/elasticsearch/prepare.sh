# The configuration in one folder, with the users as the vault has them; the server sees when they change.
set -eu
export ES_PATH_CONF=/run/elasticsearch ES_TMPDIR=/tmp
cp /etc/elasticsearch/*.yml /etc/elasticsearch/*.properties /etc/elasticsearch/jvm.options $ES_PATH_CONF
follow() {
  for file in users users_roles; do
    [ "$(cat /vault/secrets/$file)" = "$(cat $ES_PATH_CONF/$file 2>/dev/null)" ] || cp /vault/secrets/$file $ES_PATH_CONF
  done
}
follow
(while sleep 15; do follow; done) &
