#!/bin/sh
# install.sh PREFIX api|worker [TORCH_BACKEND]: what an image holds, in a new environment at PREFIX, every download
# checked against docker/requirements. TORCH_BACKEND (cpu, ...): torch from its own index, in that build, by version
# alone; without it PyPI's, which is the CUDA build, by hash. What came of it is listed, with licences, in
# PREFIX/sbom.cdx.json (CycloneDX). Run in the repository's root.
set -eu
prefix=$1 image=$2 backend=${3-}
locks=docker/requirements
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --no-cache-dir --require-hashes -r "$locks/build.txt"
uv() { "$tools/venv/bin/uv" "$@"; }

for part in ./client .; do
  uv build --quiet --wheel --no-sources --no-build-isolation --python "$tools/venv/bin/python" -o "$tools/wheels" "$part"
done
python3 -m venv --without-pip "$prefix"
into() { uv pip install --quiet --no-cache --python "$prefix/bin/python" --no-deps "$@"; }
into --require-hashes -r "$locks/$image.txt"
if [ "$image" = worker ] && [ -z "$backend" ]; then
  into --require-hashes -r "$locks/torch.txt"
elif [ "$image" = worker ]; then
  uv pip install --quiet --no-cache --python "$prefix/bin/python" --torch-backend "$backend" -c constraints.txt torch
fi
into "$tools"/wheels/*.whl
uv pip check --python "$prefix/bin/python"
"$tools/venv/bin/cyclonedx-py" environment --of JSON -o "$prefix/sbom.cdx.json" "$prefix/bin/python"
