#include "shell.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "error.hpp"

namespace blockmoe::cli {
namespace {

using Clock = std::chrono::steady_clock;

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) throw RunError(std::string("cannot make a pipe: ") + std::strerror(errno));
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  bool open_for_reading() const { return ends_[0] >= 0; }
  void close_write_end() { close_end(1); }

  // Takes what is there; closes the read end at the end of the stream.
  void drain_into(std::string& text) {
    std::array<char, 65536> buffer;
    const ssize_t count = read(ends_[0], buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) return;
    if (count <= 0) return close_end(0);
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > 2 * kMaxOutput) text.erase(0, text.size() - kMaxOutput);
  }

 private:
  void close_end(std::size_t end) {
    if (ends_[end] >= 0) close(ends_[end]);
    ends_[end] = -1;
  }
  std::array<int, 2> ends_{-1, -1};
};

// While a command runs, an interrupt of this process ends the command's process group first.
volatile std::sig_atomic_t running_group = 0;

extern "C" void end_group_and_self(int signal_number) {
  if (running_group != 0) kill(-static_cast<pid_t>(running_group), SIGKILL);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

class GroupGuard {
 public:
  explicit GroupGuard(pid_t group) {
    running_group = group;
    struct sigaction action = {};
    action.sa_handler = end_group_and_self;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  GroupGuard(const GroupGuard&) = delete;
  GroupGuard& operator=(const GroupGuard&) = delete;
  ~GroupGuard() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    running_group = 0;
  }

 private:
  static constexpr std::array<int, 3> kSignals{SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> before_{};
};

pid_t start(const std::string& command, const Pipe& out, const Pipe& err) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, out.write_end(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, err.write_end(), STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);

  std::string text = command;
  std::string shell = "sh";
  std::string flag = "-c";
  std::array<char*, 4> arguments{shell.data(), flag.data(), text.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawn(&child, "/bin/sh", &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw RunError(std::string("cannot start /bin/sh: ") + std::strerror(error));
  return child;
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1000));
}

// Reads both streams to their ends; false at the deadline.
bool read_all(Pipe& out, Pipe& err, Clock::time_point deadline, ShellResult& result) {
  while (out.open_for_reading() || err.open_for_reading()) {
    if (Clock::now() >= deadline) return false;
    std::array<pollfd, 2> files{pollfd{out.read_end(), POLLIN, 0}, pollfd{err.read_end(), POLLIN, 0}};
    if (poll(files.data(), files.size(), milliseconds_until(deadline)) <= 0) continue;
    if (files[0].revents != 0) out.drain_into(result.out);
    if (files[1].revents != 0) err.drain_into(result.err);
  }
  return true;
}

// True when the child ended before the deadline; `status` is then waitpid's.
bool wait_until(pid_t child, Clock::time_point deadline, int& status) {
  while (true) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) return true;
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void keep_last(std::string& text) {
  if (text.size() > kMaxOutput) text.erase(0, text.size() - kMaxOutput);
}

}  // namespace

ShellResult run_shell(const std::string& command, std::chrono::duration<double> limit) {
  const Clock::time_point deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(limit);
  Pipe out;
  Pipe err;
  const pid_t child = start(command, out, err);
  const GroupGuard guard(child);
  out.close_write_end();
  err.close_write_end();

  ShellResult result;
  int status = 0;
  if (!read_all(out, err, deadline, result) || !wait_until(child, deadline, status)) {
    result.timed_out = true;
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  keep_last(result.out);
  keep_last(result.err);
  return result;
}

std::string shell_quote(std::string_view value, QuoteContext context) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (context == QuoteContext::bare && !value.empty() && value.find_first_not_of(kPlain) == std::string_view::npos) {
    return std::string(value);
  }
  const bool doubled = context == QuoteContext::in_double_quotes;
  std::string quoted;
  for (const char c : value) {
    if (doubled && (c == '"' || c == '\\' || c == '$' || c == '`')) quoted += '\\';
    if (!doubled && c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return context == QuoteContext::bare ? "'" + quoted + "'" : quoted;
}

QuoteContext quote_context_after(std::string_view text, QuoteContext context) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    switch (context) {
      case QuoteContext::bare:
        if (c == '\\') ++i;
        if (c == '\'') context = QuoteContext::in_single_quotes;
        if (c == '"') context = QuoteContext::in_double_quotes;
        break;
      case QuoteContext::in_single_quotes:
        if (c == '\'') context = QuoteContext::bare;
        break;
      case QuoteContext::in_double_quotes:
        if (c == '\\') ++i;
        if (c == '"') context = QuoteContext::bare;
        break;
    }
  }
  return context;
}

}  // namespace blockmoe::cli
