#!/bin/sh
# Whether the publishing happened: 0 yes, 1 no.
grep -qx "publish $PAWL_DESCRIPTION" effects.log && echo "publish of $PAWL_DESCRIPTION"
