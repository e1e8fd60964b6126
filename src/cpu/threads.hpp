// threads.hpp: the threads of a plan.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace blockmoe::cpu {

/// A fixed number of threads, the caller of for_each being one of them. Calls from several threads take turns.
/// Like any threads they are not there in a child process after fork().
class ThreadPool {
 public:
  /// `threads` >= 1, the caller's included. Throws std::system_error where the system gives no more threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// task(index, thread) for every index in [0, count), on whichever thread (0..threads()-1) is free; returns when all are
  /// done. Allocates nothing. The task must not throw.
  template <typename Task>
  void for_each(std::int64_t count, const Task& task) {
    run({count, &task,
         [](const void* t, std::int64_t index, int thread) { (*static_cast<const Task*>(t))(index, thread); }});
  }

 private:
  struct Job {
    std::int64_t count = 0;
    const void* task = nullptr;
    void (*call)(const void*, std::int64_t, int) = nullptr;
  };

  void run(const Job& job);
  void take_indices(int thread);
  void work(int thread);
  void stop();

  std::mutex turn_;                    // held for the length of one job
  Job job_;                            // written before epoch_ moves on, read after
  std::atomic<std::int64_t> next_{0};  // index to take
  std::atomic<int> epoch_{0};          // moves on with every job, and once to stop
  std::atomic<int> busy_{0};           // workers that have not finished the job
  bool stopping_ = false;              // written before epoch_ moves on, read after
  std::vector<std::thread> workers_;
};

}  // namespace blockmoe::cpu
