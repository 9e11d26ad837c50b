#!/usr/bin/env bash
# An S3 server with real credentials and policies on this machine: Ceph's radosgw with one monitor and one OSD in memory.
#
#   apt-get install --no-install-recommends ceph-mon ceph-osd radosgw
#   infra/s3/radosgw.sh FOLDER PORT
#
# Stays in the foreground and takes its daemons along when it ends; all data is lost then. Once it answers, FOLDER/ready
# holds the environment of an S3 client (`set -a; . FOLDER/ready`). It listens on the loopback address alone and Ceph's
# own daemons do not authenticate each other: for trying things on, never for data.
set -euo pipefail

folder=${1:?usage: radosgw.sh FOLDER PORT}
port=${2:?usage: radosgw.sh FOLDER PORT}
for program in ceph-mon ceph-osd radosgw radosgw-admin monmaptool ceph; do
  command -v "$program" >/dev/null ||
    { echo "$program is missing: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw" >&2; exit 1; }
done
mkdir -p "$folder"
cd "$folder"
[[ ! -e ceph.conf ]] || { echo "$folder holds an earlier run: give another folder" >&2; exit 1; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

here=$PWD
monitor=v2:127.0.0.1:$(free_port)
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >ceph.conf <<CONF
[global]
fsid = $fsid
mon_host = $monitor
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
public_network = 127.0.0.0/8
ms_bind_ipv4 = true
ms_bind_msgr1 = false
run_dir = $here
log_file = $here/\$name.log
admin_socket = $here/\$name.asok
mon_data = $here/mon
mon_allow_pool_size_one = true
osd_data = $here/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_thread_pool_size = 32
CONF
export CEPH_CONF=$here/ceph.conf

daemons=()
trap 'kill -TERM "${daemons[@]}" 2>/dev/null || true; wait' EXIT
trap 'exit 0' INT TERM

start() {
  "$@" >>"$here/$1.out" 2>&1 &
  daemons+=($!)
}

monmaptool --create --fsid "$fsid" --addv a "[$monitor]" monmap >/dev/null
ceph-mon --mkfs -i a --monmap monmap
start ceph-mon -f -i a
mkdir osd
disk=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$disk" >/dev/null
ceph-osd --mkfs -i 0 --osd-uuid "$disk" 2>>ceph-osd.out
start ceph-osd -f -i 0
start radosgw -f -n client.rgw

until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1).close()" 2>/dev/null; do
  kill -0 "${daemons[@]}" 2>/dev/null || { echo "a daemon ended, see $here/*.log" >&2; exit 1; }
  sleep 0.2
done

# This user may write other users' policies, as the administrator of a store does.
radosgw-admin user create --uid=admin --display-name=administrator --caps='user-policy=*' >admin.json
python3 - <<PYTHON
import json
from pathlib import Path

[key] = json.loads(Path("admin.json").read_text())["keys"]
Path("ready.partial").write_text(
    "AWS_ENDPOINT_URL=http://127.0.0.1:$port\n"
    f"AWS_ACCESS_KEY_ID={key['access_key']}\n"
    f"AWS_SECRET_ACCESS_KEY={key['secret_key']}\n"
    "AWS_DEFAULT_REGION=us-east-1\n"
)
Path("ready.partial").rename("ready")
PYTHON
echo "radosgw answers at http://127.0.0.1:$port, credentials in $here/ready"
wait -n "${daemons[@]}"
