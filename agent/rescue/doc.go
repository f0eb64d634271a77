// Package rescue is the rescue system: the ramdisk with a shell, for a person
// who looks at a machine that does not get on.
//
// It is given nothing that is worth anything to a stranger, and it asks for
// nothing: no ticket, no certificate, no word to the server. The shell is on
// the machine's own consoles ([Consoles]), where whoever stands before it could
// boot something of his own as well; over the network there is one for the
// holders of the keys that the operator named, and for nobody when he named
// none ([Serve]). Disks are read-only until the person says otherwise
// ([Protect]): looking at a file system must not change it.
package rescue
