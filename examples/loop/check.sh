#!/bin/sh
# Judges a result: exit code 0 passes; otherwise what it prints is the feedback.
if [ "${#PAWL_RESULT}" -lt 40 ]; then
  echo "Too short. Write a whole sentence."
  exit 1
fi
