#!/bin/sh
# Prints a ConfigMap with a module in it, as this would:
#
#   kubectl create configmap wasm-filters --namespace bookinfo \
#     --from-file main.wasm=MODULE --dry-run=client -o yaml
#
# Usage: sh configmap.sh MODULE
set -eu
cat <<YAML
apiVersion: v1
binaryData:
  main.wasm: $(base64 < "$1" | tr -d '\n')
kind: ConfigMap
metadata:
  name: wasm-filters
  namespace: bookinfo
YAML
