#!/bin/sh
. /etc/elasticsearch/prepare.sh
exec /usr/share/elasticsearch/bin/elasticsearch
