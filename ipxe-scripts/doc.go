// Package ipxescripts holds the iPXE scripts that machines are given, as
// files, and fills them in.
//
// Whatever goes into a script passes [Escape], the only escaping function for
// iPXE that there is: the fields of the templates have types that do it by
// themselves, so no script can forget it.
package ipxescripts
