/** What the signals of a process ask of a training run. */
export interface RunSignals {
  /** Raised by the first SIGINT or SIGTERM: finish the step, save and return. The second ends the process at once. */
  signal: AbortSignal;
  /** Whether SIGUSR2 has come since the last call: save and go on. */
  saveNow(): boolean;
  /** Gives the signals their usual effect again. */
  release(): void;
}

/** Exit codes of a process that a signal ended, as shells give them: 128 + its number. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/** Listens to SIGINT, SIGTERM and SIGUSR2 until released. */
export function stopOnSignals(): RunSignals {
  const controller = new AbortController();
  let save = false;
  const onStop = (name: keyof typeof EXIT_CODES): void => {
    if (controller.signal.aborted) process.exit(EXIT_CODES[name]);
    controller.abort();
    process.stderr.write('\nstopping after this step; once more to exit at once\n');
  };
  const onSave = (): void => void (save = true);
  process.on('SIGINT', onStop);
  process.on('SIGTERM', onStop);
  process.on('SIGUSR2', onSave);
  return {
    signal: controller.signal,
    saveNow() {
      const wanted = save;
      save = false;
      return wanted;
    },
    release() {
      process.off('SIGINT', onStop);
      process.off('SIGTERM', onStop);
      process.off('SIGUSR2', onSave);
    },
  };
}
