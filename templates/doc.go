// Package templates holds what a freshly written system finds on its disk: per
// OS family a folder with family.yaml, which lists the files, and a template
// for each of them.
//
// A family is data: another one is another folder. What a machine or a person
// said goes into a template only through the functions of [functions], each of
// which writes it in a form that the file's reader takes as one value.
package templates
