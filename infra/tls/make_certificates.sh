#!/usr/bin/env bash
# Certificates for Dask over TLS: an authority of your own, and one certificate each for scheduler, worker and client.
#
#   infra/tls/make_certificates.sh FOLDER [NAME ...]
#
# NAMEs are the host names and addresses the scheduler is reached by. An authority that is in FOLDER already is kept and
# signs again, so that certificates are renewed by running this once more; processes read them when they start.
# Whoever holds a certificate of this authority can run code on the workers: keep ca.key away from the cluster.
set -euo pipefail

folder=${1:?usage: make_certificates.sh FOLDER [NAME ...]}
shift
days=${SSDNET_CERTIFICATE_DAYS:-365}

alternatives="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
    alternatives+=",IP:$name"
  else
    alternatives+=",DNS:$name"
  fi
done

umask 077
mkdir -p "$folder"
cd "$folder"

# A failed openssl tells why; a successful one has nothing to say.
quietly() {
  local said
  said=$("$@" 2>&1) || { echo "$said" >&2; exit 1; }
}

new_key() { quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

if [[ ! -e ca.key ]]; then
  new_key ca.key
  quietly openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=ssdnet Dask authority" -out ca.crt \
    -addext "basicConstraints=critical,CA:true,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
fi

for role in scheduler worker client; do
  new_key "$role.key"
  quietly openssl req -new -key "$role.key" -subj "/CN=ssdnet Dask $role" -out "$role.csr"
  # Scheduler and workers call each other, so that each is server and client.
  {
    echo "basicConstraints = CA:false"
    echo "keyUsage = critical, digitalSignature"
    echo "extendedKeyUsage = serverAuth, clientAuth"
    echo "subjectAltName = $alternatives"
  } >"$role.ext"
  quietly openssl x509 -req -in "$role.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
    -sha256 -days "$days" -extfile "$role.ext" -out "$role.crt"
  rm "$role.csr" "$role.ext"
done
chmod 644 ./*.crt

echo "$folder: ca.crt, and certificate and key of scheduler, worker and client, good for $days days"
