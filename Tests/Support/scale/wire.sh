#!/bin/sh
# In place of ssh (GIT_SSH_COMMAND): runs the server's half of a fetch or push here, and adds the number of bytes that go each
# way to the file that KSPLICE_WIRE names, with what they are: `up` to the server, `down` from it.
for command; do :; done
{ { tee /dev/fd/3 | echo "up $(wc -c)" >> "$KSPLICE_WIRE"; } 3>&1 1>&4 | sh -c "$command"; } 4>&1 |
	{ tee /dev/fd/3 | echo "down $(wc -c)" >> "$KSPLICE_WIRE"; } 3>&1
