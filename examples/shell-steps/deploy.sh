#!/bin/sh
# Deploys what its task names. Every `pawl step` that is done is not run again.
set -e
pawl step fetch -- ./work.sh fetch
pawl step build -- ./work.sh build
pawl step publish --once --check './is-published.sh' -- ./work.sh publish
