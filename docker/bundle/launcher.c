// The programs of a bundle: `srn-caffe`, and under the names in bin/ those of libexec/. Linked statically, because what
// the kernel starts must need nothing of the host. It finds the bundle from its own place, puts a few variables right
// and becomes the bundle's loader, which gets the program. Compiled by docker/bundle/make.py.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

enum { WRONG_USAGE = 2, MISSING = 3, NOT_RUNNABLE = 126, NO_COMMAND = 127, MOST_LINKS = 40 };

static const char usage[] =
    "usage: srn-caffe CMD [ARGUMENT...]    for example: srn-caffe tools/run_stage.py --help\n"
    "\n"
    "Runs CMD with this bundle's Python, Caffe and libraries. A path is looked for from the current folder, then in\n"
    "the bundle; a name among the bundle's programs (python3, caffe, mpiexec), then in PATH. CMD's exit code is\n"
    "passed on. README.md tells what there is.\n";

static char* root;  // of the bundle; empty where that is /
static char* name;  // the program of libexec/ that this was called as, or NULL for `srn-caffe`

static void die(int code, const char* what, const char* why) {
  fprintf(stderr, "srn-caffe: %s: %s\n", what, why);
  exit(code);
}

static char* text(const char* format, ...) {
  char* made;
  va_list values;
  va_start(values, format);
  if (vasprintf(&made, format, values) < 0) die(1, "no memory", strerror(errno));
  va_end(values);
  return made;
}

static int is_bundle(const char* folder) { return access(text("%s/srn-caffe.json", folder), F_OK) == 0; }

// Leaves `root` and `name`, following the links that lead into the bundle, but not its own, which are the names.
static int find(const char* path) {
  char* file = text(strchr(path, '/') ? "%s" : "./%s", path);
  for (int links = 0; links < MOST_LINKS; ++links) {
    char* slash = strrchr(file, '/');
    const char* base = slash + 1;
    *slash = 0;
    char* folder = realpath(slash == file ? "/" : file, NULL);
    if (!folder) return 0;
    if (!folder[1]) *folder = 0;
    root = folder;
    if (is_bundle(folder)) return 1;
    char* last = strrchr(folder, '/');
    if (last && !strcmp(last, "/bin")) {
      root = text("%.*s", (int)(last - folder), folder);
      name = text("%s", base);
      if (is_bundle(root)) return 1;
      name = NULL;
    }
    char link[PATH_MAX];
    ssize_t length = readlink(text("%s/%s", folder, base), link, sizeof link - 1);
    if (length < 0) return 0;
    link[length] = 0;
    file = *link == '/' ? text("%s", link) : text("%s/%s", folder, link);
  }
  return 0;
}

static void set(const char* variable, const char* value) {
  if (setenv(variable, value, 1)) die(1, variable, strerror(errno));
}

// What the host's modules and settings would lead astray. LD_LIBRARY_PATH may stay: the loader is given another.
static void set_environment(void) {
  static const char* strange[] = {
      "LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONPLATLIBDIR"};
  for (size_t i = 0; i < sizeof strange / sizeof *strange; ++i) unsetenv(strange[i]);
  set("LC_ALL", "C");  // the host's locales are files for another libc
  set("PYTHONUTF8", "1");
  const char* path = getenv("PATH");
  char* bin = text("%s/bin", root);
  size_t length = strlen(bin);
  if (!path || !*path) {
    set("PATH", text("%s:/usr/local/bin:/usr/bin:/bin", bin));
  } else if (strncmp(path, bin, length) || (path[length] && path[length] != ':')) {
    set("PATH", text("%s:%s", bin, path));
  }
}

// Becomes a program of libexec/; `file` is its first argument, or NULL.
static void run(const char* program, char* file, char** arguments) {
  size_t count = 0, used = 0;
  while (arguments[count]) ++count;
  char** words = calloc(count + 10, sizeof *words);
  if (!words) die(1, "no memory", strerror(errno));
  words[used++] = text("%s/lib/ld-linux-x86-64.so.2", root);
#ifdef CUDA
  // The driver's libraries are found as the host finds them, CUDA's where the user says.
  const char* cuda = getenv("CUDA_LIBRARIES");
  const char* libraries = cuda && *cuda ? text("%s/lib:%s", root, cuda) : text("%s/lib", root);
#else
  words[used++] = "--inhibit-cache";  // of the host's libraries
  const char* libraries = text("%s/lib", root);
#endif
  words[used++] = "--library-path";
  words[used++] = (char*)libraries;
  words[used++] = "--argv0";
  words[used++] = text("%s/bin/%s", root, program);
  words[used++] = text("%s/libexec/%s", root, program);
  if (!strncmp(program, "python", 6)) {
    words[used++] = "-s";  // no packages of the user's
  } else {
    set("PYTHONNOUSERSITE", "1");
  }
  if (file) words[used++] = file;
  memcpy(words + used, arguments, count * sizeof *words);
  execv(words[0], words);
  die(NOT_RUNNABLE, words[0], strerror(errno));
}

int main(int argc, char** argv) {
  const char* called = (const char*)getauxval(AT_EXECFN);
  // As the interpreter of a script it is called by the script's name, and has its own in argv[0].
  if (!(called && find(called)) && !(argc && find(argv[0]))) {
    die(MISSING, "this program finds no bundle around it", "leave it where it was unpacked, and make links to it");
  }
  if (strpbrk(root, ":;$")) die(WRONG_USAGE, root, "the path of the bundle's folder must not have : ; or $");
  set_environment();
  if (name) run(name, NULL, argv + 1);
  if (argc < 2 || argv[1][0] == '-') {
    int asked = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    fputs(usage, asked ? stdout : stderr);
    return asked ? 0 : WRONG_USAGE;
  }
  char* command = argv[1];
  if (strchr(command, '/')) {
    if (access(command, F_OK) && *command != '/') command = text("%s/%s", root, command);
    size_t length = strlen(command);
    if (access(command, F_OK)) die(NO_COMMAND, argv[1], "no such file here or in the bundle");
    if (length > 3 && !strcmp(command + length - 3, ".py")) run("python3", command, argv + 2);
  } else if (!access(text("%s/libexec/%s", root, command), F_OK)) {
    run(command, NULL, argv + 2);
  }
  execvp(command, argv + 1);
  die(errno == ENOENT ? NO_COMMAND : NOT_RUNNABLE, argv[1], strerror(errno));
}
