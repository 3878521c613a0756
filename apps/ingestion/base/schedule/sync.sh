#!/bin/sh
# Syncs the tenant whose line of the list has this pod's index.
set -eu
tenant=$(sed -n "$((JOB_COMPLETION_INDEX + 1))p" "${TENANTS:-/tenants/tenants.txt}")
[ -n "$tenant" ] || { echo "no tenant on line $((JOB_COMPLETION_INDEX + 1)): completions and list differ" >&2; exit 1; }
# 3: another sync has the tenant's index, and does the work.
rag-ingest "$SOURCE_BUCKET/$tenant" --tenant "$tenant" || [ $? = 3 ]
