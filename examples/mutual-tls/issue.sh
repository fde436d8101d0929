# Issues NAME.crt and NAME.key for these names: sh issue.sh NAME NAMES
set -e
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
  -keyout "$1.key" -out "$1.csr" 2> /dev/null
echo "subjectAltName=$2" > "$1.ext"
openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -days 2 -extfile "$1.ext" \
  -out "$1.crt" 2> /dev/null
