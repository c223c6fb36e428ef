#!/bin/sh
# Stands for the real work: says in effects.log that it ran, takes its time, prints a result.
echo "$1 $PAWL_DESCRIPTION" >> effects.log
sleep 0.5
echo "$1 of $PAWL_DESCRIPTION"
